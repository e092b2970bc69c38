"""Restore a video: its frames through a model, in segments that survive an interruption, and everything else kept."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from itertools import groupby
from threading import Event
from typing import TYPE_CHECKING

from tsdsr.ahead import ahead
from tsdsr.errors import VideoError
from tsdsr.files import StrPath, file_stamp
from tsdsr.images.picture import Pixels
from tsdsr.images.writing import WriteOptions
from tsdsr.out_of_memory import memory_reported
from tsdsr.pipeline.made_from import BatchSettings
from tsdsr.pipeline.model_files import hash_of_model
from tsdsr.pipeline.options import RestoreKeywords, RestoreOptions, check_seed
from tsdsr.pipeline.picture_restorer import check_model
from tsdsr.pipeline.sr_pipeline import SRPipeline
from tsdsr.pipeline.steady import SteadyDetail
from tsdsr.result_records import ResultRecords
from tsdsr.runtimes.open_model import Engine, load_pipeline
from tsdsr.video.colors import to_pixels
from tsdsr.video.encoding import Encoding, write_segment
from tsdsr.video.frames import SourceFrame, read_frames
from tsdsr.video.muxing import Timeline, write_result
from tsdsr.video.options import VideoOptions
from tsdsr.video.planning import VideoJob, plan_video
from tsdsr.video.segments import Segments
from tsdsr.video.source import VideoSource

if TYPE_CHECKING:
    import torch
    from typing_extensions import Unpack

AHEAD = 2
"""Frames that wait between reading, restoring and encoding, at most."""


@dataclass(frozen=True)
class VideoResult:
    """Outcome of :func:`upscale_video`.

    Attributes:
        frames (int): number of frames in the result.
        reused (int): how many of them come from an interrupted run.
        damaged (tuple of float): times in seconds of frames that could not be decoded; each repeats the frame before.
        notices (tuple of str): what was converted, dropped or assumed.
        finished (bool): a complete result from the same source and settings already existed, so nothing was done.
    """

    frames: int = 0
    reused: int = 0
    damaged: tuple[float, ...] = ()
    notices: tuple[str, ...] = ()
    finished: bool = False


def upscale_video(
    source: StrPath,
    target: StrPath,
    scale: float = 4.0,
    *,
    model: SRPipeline | StrPath = "mini",
    device: str | torch.device = "auto",
    dtype: str | torch.dtype = "auto",
    engine: Engine = "auto",
    provider: str = "auto",
    fast: bool = False,
    seed: int | None = None,
    video_options: VideoOptions | None = None,
    overwrite: bool = False,
    on_frame: Callable[[int, int], None] | None = None,
    **options: Unpack[RestoreKeywords],
) -> VideoResult:
    """Restore and enlarge a video, as ``tsdsr video`` does.

    Sound, subtitles, chapters, tags, time stamps, rotation, pixel aspect ratio and colour codes are kept as far as the
    container allows. Frames are streamed, so memory does not depend on the length. Finished segments stay in a hidden
    folder next to the target until the video is complete. After an interruption, the same call continues.

    The arguments that are not listed here are those of :func:`tsdsr.upscale_file`.

    Args:
        source (str | PathLike): a video in any format that libav reads.
        target (str | PathLike): the result: .mp4, .m4v, .mov, .mkv or .webm.
        model: as for :func:`tsdsr.upscale_file`. Earlier segments are reused if it is given by name or folder.
        video_options (VideoOptions | None): codec, quality, part, deinterlacing, steadiness.
        overwrite (bool): replace a result, whatever it was made from.
        on_frame (callable | None): called with (finished, expected) frames.

    Returns:
        VideoResult: number of frames, notices, damaged frames.

    Raises:
        InvalidInputError: an argument is out of range, or the target exists; before the model is loaded.
        VideoError: the source cannot be read or restored.
        FileWriteError: the target cannot be written.
        ModelError: the model cannot be loaded.
        OutOfMemoryError: even the smallest tiles do not fit.
    """
    chosen = RestoreOptions(scale, **options)
    check_seed(seed)
    weights = None
    if isinstance(model, str | os.PathLike):
        check_model(model, chosen, seed, engine)
        weights = hash_of_model(model)
    settings = BatchSettings(
        weights, chosen, WriteOptions(), dtype, seed, engine=engine, quantize="fast" if fast else None
    )
    job = plan_video(source, target, chosen, video_options or VideoOptions(), settings, overwrite)
    if job.finished:
        return VideoResult(finished=True)
    if not isinstance(model, SRPipeline):
        model = load_pipeline(model, device, dtype, engine=engine, provider=provider, fast=fast, pixels=job.pixels)
    return run_video(job, model, seed, on_frame)


@memory_reported("out of memory; free some, or choose a smaller scale")
def run_video(
    job: VideoJob, pipe: SRPipeline, seed: int | None = None, on_frame: Callable[[int, int], None] | None = None
) -> VideoResult:
    """Restore a planned video.

    Args:
        job (VideoJob): see :func:`plan_video`.
        pipe (SRPipeline): a loaded model.
        seed, on_frame: see :func:`upscale_video`.

    Raises:
        VideoError: the source cannot be read or was changed meanwhile, no frame lies in the part, or another run makes
            the same result.
        FileWriteError: the target cannot be written.
    """
    segments = Segments(job.target, job.made_from, keep_last=job.options.steady > 0)
    with segments.locked():
        return _run(job, pipe, segments, seed, on_frame)


def _run(
    job: VideoJob, pipe: SRPipeline, segments: Segments, seed: int | None, on_frame: Callable[[int, int], None] | None
) -> VideoResult:
    if job.made_from["model"] is None:
        segments.finished = 0  # which weights made them is not known
    reused, stop = segments.finished * job.options.segment_frames, Event()
    timeline, damaged = Timeline(), list[float]()

    def noted(frames: Iterator[SourceFrame]) -> Iterator[SourceFrame]:
        for frame in frames:
            timeline.pts.append(frame.pts)
            timeline.last_duration = frame.duration
            if frame.damaged:
                damaged.append(frame.seconds(job.source))
            yield frame

    restorer = _FrameRestorer(job, pipe, seed, segments, stop)
    frames = ahead(noted(read_frames(job.source, job.options)), AHEAD, stop)
    restored = ahead(restorer.run(frames), AHEAD, stop)
    try:
        count = _write_segments(_reported(restored, job, on_frame), segments, job.encoding)
    finally:
        restored.close()  # type: ignore[attr-defined]
    if not count:
        raise VideoError(f"{job.source.path}: no frame lies in the part to restore")
    if file_stamp(job.source.path) != job.source_stamp:
        segments.remove()  # their record names what the source was before
        raise VideoError(f"{job.source.path}: was changed while it was read; run again")
    _set_part(timeline, job)
    paths = [segments.path(number) for number in range(count)]
    notices = write_result(job.target, job.source, job.encoding, paths, timeline)
    ResultRecords().add(job.target, job.made_from)
    segments.remove()
    done = len(timeline.pts)
    notices = (*job.notices, *_cut_off(timeline, job), *notices)
    return VideoResult(done, min(reused, done), tuple(damaged), notices)


def _reported(
    frames: Iterator[_Restored], job: VideoJob, on_frame: Callable[[int, int], None] | None
) -> Iterator[_Restored]:
    """Report each frame once it is encoded."""
    total = _expected(job.source, job.options)
    for done, frame in enumerate(frames, 1):
        yield frame
        if on_frame is not None:
            on_frame(done, max(total, done))


def _write_segments(frames: Iterator[_Restored], segments: Segments, encoding: Encoding) -> int:
    """Write the segments that are not there yet; return the number of all."""
    count = 0
    for number, group in groupby(frames, key=lambda frame: frame.segment):
        count = number + 1
        if number < segments.finished:
            for _ in group:
                pass
            continue
        with segments.writing(number) as path:
            write_segment(path, ((frame.pts, frame.pixels) for frame in group if frame.pixels is not None), encoding)
    return count


@dataclass(frozen=True)
class _Restored:
    """A restored frame, or one of a finished segment, whose pixels are not needed."""

    segment: int
    pts: int
    pixels: Pixels | None


class _FrameRestorer:
    """From decoded frames to restored pixels; runs in a thread of its own."""

    def __init__(self, job: VideoJob, pipe: SRPipeline, seed: int | None, segments: Segments, stop: Event) -> None:
        self._job, self._pipe, self._segments, self._stop = job, pipe, segments, stop
        self._generator = None if seed is None else int(seed)
        steady = job.options.steady
        self._steady = SteadyDetail(steady, job.restore.visible) if steady else None

    def run(self, frames: Iterator[SourceFrame]) -> Iterator[_Restored]:
        """Yield every frame; those of finished segments without pixels."""
        length, finished = self._job.options.segment_frames, self._segments.finished
        for frame in frames:
            segment = frame.index // length
            if segment < finished:
                if self._steady is not None and frame.index == finished * length - 1:
                    self._steady.resume(to_pixels(frame.image, self._job.source), self._segments.last_frame(segment))
                yield _Restored(segment, frame.pts, None)
                continue
            pixels = self._restore(frame)
            if (frame.index + 1) % length == 0:
                self._segments.keep(segment, pixels)
            yield _Restored(segment, frame.pts, pixels)

    def _restore(self, frame: SourceFrame) -> Pixels:
        pixels = to_pixels(frame.image, self._job.source)
        result = self._pipe.upscale_pixels(
            pixels, generator=self._generator, on_tile=self._check, **asdict(self._job.restore)
        )
        return result if self._steady is None else self._steady.blend(pixels, result)

    def _check(self, done: int, total: int) -> None:
        """End a restoration between two tiles once the run is over."""
        if self._stop.is_set():
            raise VideoError("stopped")


def _expected(source: VideoSource, options: VideoOptions) -> int:
    """Return the number of frames that a part has, an estimate; 0 if unknown."""
    rate = float(source.rate)
    start = round((options.start or 0) * rate)
    stop = source.frames if options.stop is None else min(source.frames, round(options.stop * rate))
    count = max(0, stop - start)
    return count if options.frames is None else min(count, options.frames) or options.frames


def _cut_off(timeline: Timeline, job: VideoJob) -> tuple[str, ...]:
    """Return a notice if the frames end well before the file says. libav gives no error where a file is cut off."""
    source = job.source
    end = float((timeline.pts[-1] + timeline.last_duration) * source.time_base) - source.begin
    if job.options.is_part or source.seconds - end < _TOLERANCE:
        return ()
    return (
        f"the frames end at {end:.2f} s, but the file says that it lasts {source.seconds:.2f} s; it may be damaged or "
        f"cut off",
    )


_TOLERANCE = 1.0
"""Seconds by which sound may last longer than the frames without a notice."""


def _set_part(timeline: Timeline, job: VideoJob) -> None:
    """Set which part of the source a result shows, in the source's own seconds."""
    if not job.options.is_part:
        return
    base = job.source.time_base
    timeline.begin = float(timeline.pts[0] * base)
    timeline.end = float((timeline.pts[-1] + timeline.last_duration) * base)
