"""Options of a video: how it is encoded, which part is restored, and how."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from tsdsr.errors import InvalidInputError
from tsdsr.field_checks import Between, Count, NonNegative, Positive, check_fields

SEGMENT_FRAMES = 120
"""Frames of a segment. A killed run loses at most one; each begins with a key frame, see docs/measurements/video.md."""

CodecName = Literal["h264", "hevc", "av1", "vp9", "ffv1", "prores"]


@dataclass(frozen=True)
class VideoOptions:
    """How a restored video is encoded, and which part of it is restored.

    Attributes:
        codec (str | None): "h264", "hevc", "av1", "vp9", "ffv1" (lossless) or "prores"; None uses the container's
            default for the source's bit depth.
        crf (float | None): constant rate factor, lower is better; 0 is lossless with h264, hevc and vp9.
        preset (str | None): speed of the encoder: "ultrafast" to "placebo" for h264 and hevc, "0" (slow) to "13" for
            av1, "0" to "8" for vp9.
        pixel_format (str | None): name in libav, such as "yuv444p10le"; None uses the closest to the source's.
        deinterlace (bool): convert interlaced frames to progressive ones, at the same rate.
        steady (float): share of the previous frame's detail that still areas keep, from 0 to 0.95; see
            :mod:`tsdsr.pipeline.steady`.
        start (float | None): where the part to restore begins, in seconds from the beginning of the video.
        stop (float | None): where that part ends, in seconds from the beginning of the video.
        frames (int | None): largest number of frames to restore.
        segment_frames (int): frames per segment; an interrupted run continues after the last complete segment.

    Raises:
        InvalidInputError: a value is out of range.
    """

    codec: CodecName | None = None
    crf: NonNegative | None = None
    preset: str | None = None
    pixel_format: str | None = None
    deinterlace: bool = False
    steady: Annotated[float, Between(0, 0.95)] = 0.0
    start: NonNegative | None = None
    stop: Positive | None = None
    frames: Count | None = None
    segment_frames: Count = SEGMENT_FRAMES

    def __post_init__(self) -> None:
        check_fields(self)
        if self.stop is not None and self.stop <= (self.start or 0):
            raise InvalidInputError(f"the part ends at {self.stop:g} s, before its start at {self.start or 0:g} s")

    @property
    def is_part(self) -> bool:
        """Whether only a part of the video is restored."""
        return self.start is not None or self.stop is not None or self.frames is not None
