"""``tsdsr video``."""

from __future__ import annotations

import time
from enum import Enum
from typing import TYPE_CHECKING, Annotated

import typer

from tsdsr.cli import upscale_options as given
from tsdsr.cli.common import DtypeChoice, errors_reported
from tsdsr.cli.progress import ProgressBars
from tsdsr.cli.upscale_options import ColorFixChoice, EngineChoice, FitChoice, restore_options

if TYPE_CHECKING:
    from tsdsr.pipeline.options import RestoreOptions
    from tsdsr.pipeline.sr_pipeline import SRPipeline
    from tsdsr.video.options import VideoOptions
    from tsdsr.video.planning import VideoJob
    from tsdsr.video.upscale_video import VideoResult


class CodecChoice(str, Enum):
    h264 = "h264"
    hevc = "hevc"
    av1 = "av1"
    vp9 = "vp9"
    ffv1 = "ffv1"
    prores = "prores"


def video(
    context: typer.Context,
    source: Annotated[
        str, typer.Argument(metavar="VIDEO", help="A video file, in any format that FFmpeg's libraries read.")
    ],
    output: Annotated[str, typer.Option("-o", "--output", help="File of the result: .mp4, .m4v, .mov, .mkv or .webm.")],
    model: given.Model = "mini",
    scale: given.Scale = 4.0,
    target: given.Target = None,
    fit: given.Fit = FitChoice.contain,
    color_fix: given.ColorFixOption = ColorFixChoice.wavelet,
    detail: given.Detail = 1.0,
    steady: given.Steady = 0.0,
    deinterlace: Annotated[bool, typer.Option("--deinterlace", help="Deinterlace the frames first.")] = False,
    codec: Annotated[
        CodecChoice | None,
        typer.Option(help="Default: h264, hevc above 8 bits, av1 in .webm. ffv1 is lossless."),
    ] = None,
    crf: Annotated[
        float | None,
        typer.Option(
            help="Lower is better. Default: 18 (h264), 20 (hevc), 26 (av1), 24 (vp9). 0 is lossless, except for av1."
        ),
    ] = None,
    preset: Annotated[
        str | None,
        typer.Option(
            help="Speed of the encoder: 'ultrafast' to 'placebo' (h264, hevc), 0 (slow) to 13 (av1) or 8 (vp9)."
        ),
    ] = None,
    pix_fmt: Annotated[
        str | None, typer.Option(help="Pixel format, such as yuv420p10le. Default: the source's.")
    ] = None,
    begin: Annotated[float | None, typer.Option("--from", help="Start at this second.")] = None,
    end: Annotated[float | None, typer.Option("--to", help="Stop at this second.")] = None,
    frames: Annotated[int | None, typer.Option(min=1, help="Restore no more than this many frames.")] = None,
    tile: given.TileOption = "auto",
    tile_batch: given.TileBatch = 1,
    engine: given.EngineOption = EngineChoice.auto,
    provider: given.Provider = "auto",
    fast: given.Fast = False,
    device: given.Device = "auto",
    dtype: given.Dtype = DtypeChoice.auto,
    seed: given.Seed = None,
    overwrite: given.Overwrite = False,
) -> None:
    """Restore and enlarge a video.

    Sound, subtitles, chapters, time stamps, rotation and colours are kept. To continue after an interruption, repeat
    the command. For a folder of frames, use 'tsdsr upscale'.
    """
    with errors_reported():
        from tsdsr.pipeline.model_files import local_folder, resolve_model
        from tsdsr.video.codecs import require_av
        from tsdsr.video.options import VideoOptions

        require_av()
        # One on the hub is looked up once, so that all of the command is about one revision.
        model = str(resolve_model(model)) if local_folder(model) is None else model
        restore = restore_options(context, scale, target, fit, color_fix, detail, tile, tile_batch)
        options = VideoOptions(
            None if codec is None else codec.value, crf, preset, pix_fmt, deinterlace, steady, begin, end, frames
        )
        job = _plan(source, output, restore, options, fit, model, dtype, seed, engine, fast, overwrite)
        if job.finished:
            typer.echo(f"{output}: already exists, made from the same video with the same settings; nothing to do")
            return
        from tsdsr.runtimes.open_model import load_pipeline

        pipe = load_pipeline(
            model, device, dtype.value, engine=engine.value, provider=provider, fast=fast, pixels=job.pixels,
            say=lambda text: typer.echo(text, err=True),
        )  # fmt: skip
        from tsdsr.pipeline.tile_plan import check_tile

        check_tile(pipe.spec, restore.tile)
    _run(job, pipe, seed)


def _plan(
    source: str,
    output: str,
    restore: RestoreOptions,
    options: VideoOptions,
    fit: FitChoice,
    model: str,
    dtype: DtypeChoice,
    seed: int | None,
    engine: EngineChoice,
    fast: bool,
    overwrite: bool,
) -> VideoJob:
    """Check everything that can be checked without a model."""
    from tsdsr.cli.upscale_options import PresetChoice, check_arguments
    from tsdsr.images.writing import WriteOptions
    from tsdsr.pipeline.made_from import BatchSettings
    from tsdsr.pipeline.model_files import hash_of_model
    from tsdsr.pipeline.picture_restorer import check_model
    from tsdsr.video.planning import plan_video

    check_arguments(fit, PresetChoice.default, restore, seed)
    check_model(model, restore, seed, engine.value)
    settings = BatchSettings(
        hash_of_model(model), restore, WriteOptions(), dtype.value, seed, engine=engine.value,
        quantize="fast" if fast else None,
    )  # fmt: skip
    return plan_video(source, output, restore, options, settings, overwrite)


def _run(job: VideoJob, pipe: SRPipeline, seed: int | None) -> None:
    """Restore the video with a progress bar, and say what was done; exit with 1 if frames were damaged."""
    from tsdsr.errors import TSDSRError
    from tsdsr.video.upscale_video import run_video

    started = time.perf_counter()

    def report(done: int, total: int) -> None:
        seconds = time.perf_counter() - started
        bars.report("frames", done, total, f"{done / seconds:.2f} frames/s")

    try:
        with ProgressBars() as bars:
            result = run_video(job, pipe, seed, report)
    except (KeyboardInterrupt, SystemExit):
        typer.echo(f"{job.target}: not finished; the same command continues after the last finished segment", err=True)
        raise
    except TSDSRError as error:
        typer.echo(f"failed: {error}", err=True)
        raise typer.Exit(1) from error
    _say(job, result, time.perf_counter() - started)
    if result.damaged:
        raise typer.Exit(1)


def _say(job: VideoJob, result: VideoResult, seconds: float) -> None:
    from tsdsr.wording import counted

    for notice in result.notices:
        typer.echo(f"note: {job.source.path}: {notice}", err=True)
    if result.damaged:
        times = ", ".join(f"{time:.3f}" for time in result.damaged[:10]) + (" …" if len(result.damaged) > 10 else "")
        what = counted(len(result.damaged), "frame")
        typer.echo(
            f"failed: {job.source.path}: {what} could not be decoded (at {times} s); the previous frame is shown "
            f"instead",
            err=True,
        )
    made = result.frames - result.reused
    before = f", {result.reused} made before" if result.reused else ""
    speed = f", {made / seconds:.2f} frames/s" if made and seconds > 0 else ""
    typer.echo(f"{counted(made, 'frame')} restored{before} in {seconds:.1f} s{speed}")
    typer.echo(f"written to {job.target}")
