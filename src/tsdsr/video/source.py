"""What a video file holds, found before a model is loaded."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

from tsdsr.errors import VideoError
from tsdsr.images.formats import FORMATS
from tsdsr.wording import first_line

MATRICES = {1: 1, 4: 4, 5: 5, 6: 5, 7: 7, 9: 9}
"""Code of a YUV matrix (ITU-T H.273) → its code in swscale."""

LIMITED, FULL = 1, 2
"""Codes of the ranges of samples in libav."""

_UNSPECIFIED = 2
_BT709, _BT601, _RGB = 1, 6, 0
_HDR = {16: "PQ", 18: "HLG"}
_FASTEST = 1000
"""Frames per second above which a rate is taken for a mistake: containers with milliseconds give such."""

_STILL = ("image2", "apng_still")


@dataclass(frozen=True)
class VideoSource:
    """Facts about the video stream to restore.

    Attributes:
        path (Path): the file.
        index (int): its stream in the file.
        width, height (int): size of the stored frames.
        chroma (str): "gray", "420", "422", "444" or "rgb".
        bits (int): bits per sample.
        matrix (int): code of the YUV matrix (ITU-T H.273); guessed from the size if the file does not tell.
        range (int): :data:`LIMITED` or :data:`FULL`.
        primaries, transfer (int): codes of the colour space; 2 is unspecified.
        time_base (Fraction): unit of the time stamps in seconds.
        rate (Fraction): frames per second, an average if it varies.
        begin (float): time of the beginning of the file in seconds.
        frames (int): number of frames, 0 if unknown; an estimate for most containers.
        seconds (float): how long the file says that it lasts; 0 if unknown.
        aspect (Fraction): width of a pixel by its height.
        display_matrix (tuple of int | None): how players rotate the frames, in libav's layout.
        notices (tuple of str): what is not as usual.
    """

    path: Path
    index: int
    width: int
    height: int
    chroma: str
    bits: int
    matrix: int
    range: int
    primaries: int
    transfer: int
    time_base: Fraction
    rate: Fraction
    begin: float
    frames: int
    seconds: float
    aspect: Fraction
    display_matrix: tuple[int, ...] | None
    notices: tuple[str, ...]


@contextmanager
def opened(path: Path) -> Iterator[Any]:
    """Open a file with libav for reading.

    Yields:
        av.container.InputContainer: the open file.

    Raises:
        VideoError: it is missing or no video.
    """
    import av

    if path.is_dir():
        raise VideoError(
            f"{path}: is a folder; restore its frames with 'tsdsr upscale {path} -o RESULTS', with --steady if they "
            f"follow each other"
        )
    if not path.exists():
        raise VideoError(f"{path}: no such file")
    try:
        container = av.open(str(path.absolute()), metadata_errors="replace")  # libav takes "a:b" for a protocol
    except (av.FFmpegError, OSError) as error:
        raise VideoError(f"{path}: is not a video that can be read ({_reason(error)})") from error
    with container:
        yield container


def main_stream(container: Any) -> Any:
    """Return the stream to restore: the first one of video that is not a cover picture; None if there is none."""
    import av

    cover = av.stream.Disposition.attached_pic
    return next((stream for stream in container.streams.video if not stream.disposition & cover), None)


def read_source(path: Path) -> VideoSource:
    """Read what a file holds; its first frame is decoded.

    Raises:
        VideoError: it is missing, has no video, or its frames cannot be restored; the message says why.
    """
    import av

    with opened(path) as container:
        if container.format.name.endswith("_pipe") or container.format.name in _STILL or path.suffix.lower() in FORMATS:
            raise VideoError(f"{path}: is a still image; restore it with 'tsdsr upscale'")
        stream = main_stream(container)
        if stream is None:
            what = "sound only" if container.streams.audio else "no video"
            raise VideoError(f"{path}: has {what}; give a file with a video stream")
        if stream.codec_context is None:
            raise VideoError(f"{path}: its codec is unknown to this build of PyAV; convert it, to H.264 for example")
        try:
            frame = next(_decodable(container, stream), None)
        except (av.FFmpegError, OSError) as error:
            raise VideoError(f"{path}: no frame can be decoded ({_reason(error)})") from error
        if frame is None:
            raise VideoError(f"{path}: no frame can be decoded; the file is empty or damaged")
        return _described(path, container, stream, frame)


def _decodable(container: Any, stream: Any) -> Iterator[Any]:
    """Yield frames, and ignore damage before the first one."""
    import av

    for packet in container.demux(stream):
        try:
            yield from packet.decode()
        except av.FFmpegError as error:
            if isinstance(error, av.error.EOFError):
                return


def _described(path: Path, container: Any, stream: Any, frame: Any) -> VideoSource:
    components = frame.format.components
    chroma, bits = _chroma(frame.format), max(component.bits for component in components)
    if frame.color_trc in _HDR:
        raise VideoError(
            f"{path}: has high dynamic range ({_HDR[frame.color_trc]}), which the model does not take; convert it to "
            f"BT.709 with a tone mapper first"
        )
    notices, matrix = [], int(frame.colorspace)
    if chroma in ("rgb", "gray"):
        matrix = _BT709 if chroma == "rgb" else matrix if matrix in MATRICES else _guess(frame.height)
    elif matrix == _UNSPECIFIED:
        matrix = _guess(frame.height)
        named = "BT.709" if matrix == _BT709 else "BT.601"
        notices.append(f"does not tell its YUV matrix; {named} is assumed from its size, and written")
    elif matrix not in MATRICES:
        raise VideoError(
            f"{path}: its YUV matrix (code {matrix} of ITU-T H.273) is not supported; convert it to BT.709"
        )
    full = frame.color_range == FULL or frame.format.name.startswith("yuvj")
    if any(component.is_alpha for component in components) or stream.metadata.get("alpha_mode") == "1":
        notices.append("transparency is left out")
    if bits > 10:
        notices.append(f"{bits} bits become 10")
    rate = next((r for r in (stream.average_rate, stream.guessed_rate) if r and r <= _FASTEST), Fraction(25))
    seconds = None if stream.duration is None else float(stream.duration * stream.time_base)
    if seconds is None and container.duration is not None:
        seconds = container.duration / 1e6
    return VideoSource(
        path, stream.index, frame.width, frame.height, chroma, bits, matrix,
        LIMITED if chroma == "rgb" else FULL if full else LIMITED,
        int(frame.color_primaries), int(frame.color_trc), stream.time_base, rate,
        (container.start_time or 0) / 1e6, stream.frames or round((seconds or 0) * float(rate)), seconds or 0.0,
        stream.sample_aspect_ratio or Fraction(1), _display_matrix(frame),
        (*notices, *_interlaced(frame)),
    )  # fmt: skip


def _guess(height: int) -> int:
    """Return the matrix that players assume for frames of this height."""
    return _BT709 if height >= 720 else _BT601


def _interlaced(frame: Any) -> tuple[str, ...]:
    return (INTERLACED,) if frame.interlaced_frame else ()


INTERLACED = "is interlaced: moving edges show as combs, which the model would sharpen; --deinterlace removes them"
"""Notice of a video whose first frame is interlaced."""


def _chroma(pixel_format: Any) -> str:
    colors = [component for component in pixel_format.components if not component.is_alpha]
    if pixel_format.is_rgb or pixel_format.has_palette:
        return "rgb"
    if len(colors) < 3:
        return "gray"
    ratio = (pixel_format.width / pixel_format.chroma_width(), pixel_format.height / pixel_format.chroma_height())
    return "444" if max(ratio) < 1.5 else "422" if ratio[1] < 1.5 else "420"


def _display_matrix(frame: Any) -> tuple[int, ...] | None:
    """Return the nine integers of a frame's display matrix without its shift, which depends on the size."""
    import numpy as np
    from av.sidedata.sidedata import Type

    data = frame.side_data.get(Type.DISPLAYMATRIX)
    if data is None:
        return None
    values = np.frombuffer(data, np.int32).tolist()
    return (*values[:6], 0, 0, values[8])


def _reason(error: BaseException) -> str:
    """Return what libav or the system says is wrong, without its error number and the file's name."""
    return str(getattr(error, "strerror", None) or first_line(error)).lower()
