"""The file of a result: segments joined, and everything else from the source."""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

from tsdsr.errors import FileWriteError
from tsdsr.files import atomic_path
from tsdsr.video.codecs import container_of
from tsdsr.video.encoding import Encoding, describe_colors
from tsdsr.video.other_streams import Carried, carry
from tsdsr.video.source import VideoSource, opened


@dataclass
class Timeline:
    """When the frames of a result are shown.

    Attributes:
        pts (list of int): time stamps in units of the source's ``time_base``, strictly growing.
        last_duration (int): duration of the last frame in the same unit; 0 if unknown.
        begin, end (float | None): the part of the source in its own seconds that the result shows; None is all.
    """

    pts: list[int] = field(default_factory=list)
    last_duration: int = 0
    begin: float | None = None
    end: float | None = None


def write_result(
    target: Path, source: VideoSource, encoding: Encoding, segments: Sequence[Path], timeline: Timeline
) -> tuple[str, ...]:
    """Join segments to a result, with sound, subtitles, chapters, attachments and tags of the source. Atomic.

    Args:
        target (Path): the result; an existing file is replaced.
        source (VideoSource): where everything but the frames comes from.
        encoding (Encoding): how the frames are encoded.
        segments (sequence of Path): in order.
        timeline (Timeline): one time stamp for each frame of the segments.

    Returns:
        tuple of str: what was converted or left out.

    Raises:
        FileWriteError: the file cannot be written.
    """
    import av

    container = container_of(target)
    options = {}
    if container.format in ("mp4", "mov"):
        # Without it, the beginning of a track is rounded to milliseconds.
        options = {"movie_timescale": str(source.time_base.denominator), "movflags": "+faststart"}
    try:
        with (
            atomic_path(target) as temporary,
            opened(source.path) as given,
            opened(segments[0]) as first,
            av.open(str(temporary.absolute()), "w", format=container.format, options=options) as result,
        ):
            video = _video_stream(result, first.streams.video[0], given.streams[source.index], source, encoding)
            carried, notices = _other_streams(given, result, source)
            shift = timeline.begin or 0.0
            _describe(given, result, timeline)
            frames = _video_packets(segments, video, timeline, encoding.time_base, shift)
            others = _other_packets(given, carried, timeline)
            for packet in heapq.merge(frames, others, key=_decoding_time):
                result.mux(packet)
    except (av.FFmpegError, ValueError) as error:
        raise FileWriteError(f"{target}: cannot be written ({error})") from error
    return (*notices, *_without_aspect(target, encoding))


def _without_aspect(target: Path, encoding: Encoding) -> tuple[str, ...]:
    """Return a notice if a result does not tell the shape of its pixels, as some codecs in Matroska do not."""
    with opened(target) as result:
        found = result.streams.video[0].sample_aspect_ratio or 1
    if found == encoding.aspect:
        return ()
    wanted = f"{encoding.aspect.numerator}:{encoding.aspect.denominator}"
    return (
        f"{encoding.codec} in {target.suffix} does not store pixels of {wanted}, so players show another shape; choose "
        f"h264 or hevc, or a --target of the right shape with --fit stretch",
    )


def _video_stream(result: Any, segment: Any, given: Any, source: VideoSource, encoding: Encoding) -> Any:
    """Add the stream of the restored frames, with rotation, aspect, colours and tags."""
    video = result.add_stream_from_template(segment, opaque=True)
    video.time_base = encoding.time_base
    context = video.codec_context
    context.sample_aspect_ratio = encoding.aspect
    describe_colors(context, encoding)
    if encoding.codec == "hevc" and result.format.name in ("mp4", "mov"):
        context.codec_tag = "hvc1"  # Apple's players take no other
    if source.display_matrix is not None:
        video.set_display_matrix(source.display_matrix)
    video.metadata.update({k: v for k, v in given.metadata.items() if k in ("language", "title")})
    video.disposition = given.disposition
    return video


def _other_streams(given: Any, result: Any, source: VideoSource) -> tuple[dict[int, Carried], list[str]]:
    """Add all other streams to a result; return those that it takes, by their index, and notices."""
    carried, notices = {}, []
    for stream in given.streams:
        if stream.index == source.index:
            continue
        if stream.type == "attachment":
            if result.format.name == "matroska":
                result.add_attachment(stream.name or "attachment", stream.mimetype or "", stream.data)
            else:
                notices.append(f"attachment {stream.name} is left out: {result.format.name} does not take it")
            continue
        outcome = carry(stream, result)
        if isinstance(outcome, str):
            notices.append(outcome)
            continue
        carried[stream.index] = outcome
        if outcome.notice is not None:
            notices.append(outcome.notice)
    return carried, notices


def _describe(given: Any, result: Any, timeline: Timeline) -> None:
    """Copy tags and chapters."""
    result.metadata.update({key: value for key, value in given.metadata.items() if key not in _OF_THE_FILE})
    chapters = []
    for chapter in given.chapters():
        base = chapter["time_base"] or Fraction(1, 1000)
        start, end = chapter["start"], chapter["end"]
        if timeline.begin is not None:
            start -= round(timeline.begin / base)
            end -= round(timeline.begin / base)
        if timeline.end is not None:
            end = min(end, round((timeline.end - (timeline.begin or 0)) / base))
        if end > max(start, 0):
            chapters.append({**chapter, "start": max(start, 0), "end": end})
    if chapters:
        result.set_chapters(chapters)


_OF_THE_FILE = {"major_brand", "minor_version", "compatible_brands", "encoder"}
"""Tags that describe the source's container, not its content."""


def _decoding_time(packet: Any) -> Fraction:
    return packet.dts * packet.time_base  # type: ignore[no-any-return]


def _video_packets(
    segments: Sequence[Path], stream: Any, timeline: Timeline, time_base: Fraction, shift: float
) -> Iterator[Any]:
    """Yield the packets of all segments with the time stamps of the frames.

    Decoding times are the sorted time stamps, delayed by as many frames as the encoder reorders.
    """
    pts, offset = timeline.pts, round(shift / time_base)
    delay = max((_reordering(path) for path in segments), default=0)
    step = pts[1] - pts[0] if len(pts) > 1 else 1
    begin = count = 0
    for path in segments:
        with opened(path) as container:
            packets = [packet for packet in container.demux(video=0) if packet.size]
        ranks = {time: rank for rank, time in enumerate(sorted(packet.pts for packet in packets))}
        for packet in packets:
            rank = begin + ranks[packet.pts]
            packet.stream, packet.time_base = stream, time_base
            packet.pts = pts[rank] - offset
            packet.dts = (pts[count - delay] if count >= delay else pts[0] - (delay - count) * step) - offset
            packet.duration = pts[rank + 1] - pts[rank] if rank + 1 < len(pts) else timeline.last_duration or step
            count += 1
            yield packet
        begin += len(packets)


def _reordering(path: Path) -> int:
    """Return how many frames a segment's packets come after their place in the order of display, at most."""
    with opened(path) as container:
        times = [packet.pts for packet in container.demux(video=0) if packet.size]
    ranks = {time: rank for rank, time in enumerate(sorted(times))}
    return max((place - ranks[time] for place, time in enumerate(times)), default=0)


def _other_packets(given: Any, carried: dict[int, Carried], timeline: Timeline) -> Iterator[Any]:
    """Yield the packets of the other streams, of the part of the source that the result shows."""
    if not carried:
        return
    if timeline.begin:
        given.seek(int(timeline.begin * 1_000_000))
    for packet in given.demux([stream.source for stream in carried.values()]):
        index = packet.stream.index
        if packet.size:
            time = packet.pts if packet.pts is not None else packet.dts
            if time is None or not _within(float(time * packet.time_base), timeline):
                continue
        for new in carried[index].packets(packet):
            if timeline.begin:
                offset = round(timeline.begin / new.time_base)
                new.pts, new.dts = new.pts - offset, new.dts - offset
            yield new


def _within(seconds: float, timeline: Timeline) -> bool:
    if timeline.begin is not None and seconds < timeline.begin:
        return False
    return timeline.end is None or seconds < timeline.end
