"""Frames of a video in the order of their display, one at a time, with damaged ones replaced."""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any

from tsdsr.errors import VideoError
from tsdsr.video.options import VideoOptions
from tsdsr.video.source import VideoSource, opened


@dataclass(frozen=True)
class SourceFrame:
    """A decoded frame.

    Attributes:
        index (int): number of the frame in what is restored, from 0.
        pts (int): time stamp in units of the source's ``time_base``.
        duration (int): in the same unit; 0 if unknown.
        image (av.VideoFrame): the frame.
        damaged (bool): it could not be decoded, and ``image`` is the frame before.
    """

    index: int
    pts: int
    duration: int
    image: Any
    damaged: bool = False

    def seconds(self, source: VideoSource) -> float:
        """Return the time of the frame since the beginning of the video."""
        return float(self.pts * source.time_base) - source.begin


def read_frames(source: VideoSource, options: VideoOptions) -> Iterator[SourceFrame]:
    """Yield the frames to restore. Only the decoder's own frames are in memory at a time.

    Time stamps grow strictly. A packet that cannot be decoded gives the frame before it once more, so that the sound
    stays in time.

    Args:
        source (VideoSource): what to read.
        options (VideoOptions): ``start``, ``stop``, ``frames`` and ``deinterlace``.

    Raises:
        VideoError: the size of the frames changes, or the file cannot be read.
    """
    frames = islice(_within(_decoded(source, options), source, options), options.frames)
    last: int | None = None
    step = max(1, round(1 / source.rate / source.time_base))
    for index, (pts, image, damaged) in enumerate(frames):
        if (image.width, image.height) != (source.width, source.height):
            raise VideoError(
                f"{source.path}: frame {index + 1} has {image.width}x{image.height} pixels, and those before it "
                f"{source.width}x{source.height}; cut the video where its size changes"
            )
        if pts is None:
            pts = 0 if last is None else last + step
        last = pts if last is None else max(pts, last + 1)
        yield SourceFrame(index, last, image.duration or 0, image, damaged)


def _within(
    frames: Iterator[tuple[int | None, Any, bool]], source: VideoSource, options: VideoOptions
) -> Iterator[tuple[int | None, Any, bool]]:
    """Yield the frames between ``start`` and ``stop``."""
    for pts, image, damaged in frames:
        seconds = None if pts is None else float(pts * source.time_base) - source.begin
        if seconds is not None and options.stop is not None and seconds >= options.stop:
            return
        if seconds is None or options.start is None or seconds >= options.start - 1e-6:
            yield pts, image, damaged


def _decoded(source: VideoSource, options: VideoOptions) -> Iterator[tuple[int | None, Any, bool]]:
    """Yield time stamp, frame, and whether it stands for a damaged one.

    The decoder runs without threads over frames, which is fast enough beside a model: with them, an error would come
    with a later packet.
    """
    import av

    with opened(source.path) as container:
        stream = container.streams[source.index]
        if options.start:
            _seek(container, stream, source, options.start)
        graph = _deinterlacer(stream) if options.deinterlace else None
        lost: list[int] = []  # time stamps of packets without a frame
        before: Any = None
        try:
            for packet in container.demux(stream):
                for image in _images(packet, lost, graph):
                    if image.is_corrupt and before is not None:
                        heapq.heappush(lost, image.pts)
                        continue
                    while lost and image.pts is not None and lost[0] < image.pts:
                        yield heapq.heappop(lost), before or image, True
                    before = image
                    yield image.pts, image, False
        except (av.FFmpegError, OSError) as error:
            if before is None:
                raise VideoError(f"{source.path}: cannot be read ({error})") from error
            heapq.heappush(lost, (before.pts or 0) + 1)  # the file ends here
        while lost and before is not None:
            yield heapq.heappop(lost), before, True


def _images(packet: Any, lost: list[int], graph: Any) -> Iterator[Any]:
    """Decode a packet; note its time stamp if it is damaged."""
    import av

    try:
        images = packet.decode()
    except (EOFError, av.error.EOFError):
        return
    except av.FFmpegError:
        if packet.pts is not None:
            heapq.heappush(lost, packet.pts)
        return
    if graph is None:
        yield from images
        return
    for image in [*images, *([None] if packet.dts is None and not packet.size else [])]:
        graph.vpush(image)
        while True:
            try:
                yield graph.vpull()
            except (av.error.BlockingIOError, av.error.EOFError):
                break


def _deinterlacer(stream: Any) -> Any:
    """Return a graph that removes the combs of interlaced frames, one frame for each."""
    import av

    graph = av.filter.Graph()
    graph.link_nodes(
        graph.add_buffer(template=stream, time_base=stream.time_base),
        graph.add("bwdif", "mode=send_frame:deint=interlaced"),
        graph.add("buffersink"),
    ).configure()
    return graph


def _seek(container: Any, stream: Any, source: VideoSource, start: float) -> None:
    """Go to a key frame before ``start``; where that fails, frames are decoded from the beginning."""
    import av

    try:
        container.seek(int((start + source.begin) / source.time_base), stream=stream)
    except (av.FFmpegError, OSError):
        container.seek(0)
