"""``tsdsr upscale``."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tsdsr.cli.common import DtypeChoice, errors_reported
from tsdsr.cli.fold import QuantizeChoice, quantize_pipeline
from tsdsr.cli.progress import ProgressBars
from tsdsr.errors import InvalidInputError

if TYPE_CHECKING:
    from tsdsr.images.picture import Picture
    from tsdsr.images.writing import WriteOptions
    from tsdsr.pipeline.files import Job, Restore
    from tsdsr.pipeline.options import RestoreOptions, Tile
    from tsdsr.pipeline.pipeline import OneStepSRPipeline


class ColorFixChoice(str, Enum):
    wavelet = "wavelet"
    adain = "adain"
    none = "none"


class FitChoice(str, Enum):
    contain = "contain"
    cover = "cover"
    stretch = "stretch"


class BackendChoice(str, Enum):
    auto = "auto"
    torch = "torch"
    onnx = "onnx"
    openvino = "openvino"


class PresetChoice(str, Enum):
    default = "default"
    upstream = "upstream"


class SubsamplingChoice(str, Enum):
    full = "444"
    half = "422"
    quarter = "420"


class IccChoice(str, Enum):
    keep = "keep"
    srgb = "srgb"


Inputs = Annotated[list[str], typer.Argument(metavar="INPUT", help="Image files, folders or patterns.")]
Output = Annotated[Path, typer.Option("-o", "--output", help="Output folder, or file for a single input file.")]
Model = Annotated[str, typer.Option(help="'mini', a pipeline or exported folder, or a hub id.")]
Scale = Annotated[float, typer.Option(help="Enlargement from 1 to 8, fractions allowed.")]
Target = Annotated[str | None, typer.Option(metavar="WxH", help="Size of the result instead of a scale; see --fit.")]
Fit = Annotated[
    FitChoice,
    typer.Option(help="'contain' keeps the aspect and stays within WxH, 'cover' fills it and crops, or 'stretch'."),
]
ColorFixOption = Annotated[ColorFixChoice, typer.Option(help="How colours are aligned.")]
Detail = Annotated[float, typer.Option(min=0, max=1, help="0 faithful … 1 detailed, as trained.")]
TileOption = Annotated[str, typer.Option(help="'auto', 'off' or the edge of a tile in output pixels.")]
TileBatch = Annotated[int, typer.Option(min=1, help="Tiles processed together.")]
Backend = Annotated[BackendChoice, typer.Option(help="Runtime; 'auto' is PyTorch, or what a model was exported for.")]
Device = Annotated[str, typer.Option(help="'auto', 'cpu', 'cuda', 'cuda:1', 'mps' …")]
Dtype = Annotated[DtypeChoice, typer.Option(help="Precision of the network.")]
Compile = Annotated[
    bool, typer.Option("--compile", help="Compile the networks: slow to start, worth it for many images.")
]
Quantize = Annotated[
    QuantizeChoice | None, typer.Option(help="Run large models in 8 bits (needs the extra 'quantize').")
]
Seed = Annotated[int | None, typer.Option(help="Sample the encoder's posterior with this seed.")]
Format = Annotated[str | None, typer.Option(help="png, jpg, webp, tiff, bmp, avif or heic; default the input's.")]
Quality = Annotated[
    int | None, typer.Option(help="Of JPEG and WebP (default 95), AVIF and HEIC (default 90), 1 to 100.")
]
Subsampling = Annotated[SubsamplingChoice, typer.Option(help="Of colour in JPEG, AVIF and HEIC; 444 keeps it all.")]
Lossless = Annotated[bool, typer.Option("--lossless", help="WebP without loss.")]
Compression = Annotated[int, typer.Option(help="Of PNG and TIFF, 0 (fast) to 9 (small); never loses.")]
Icc = Annotated[IccChoice, typer.Option(help="'keep' the ICC profile, or convert to 'srgb'.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Make results again that exist.")]
MaxPixels = Annotated[int, typer.Option(min=1, help="Refuse inputs with more pixels.")]
Preset = Annotated[PresetChoice, typer.Option(help="'upstream' repeats the released code's habits (SD3).")]


def upscale(
    inputs: Inputs,
    output: Output,
    model: Model = "mini",
    scale: Scale = 4.0,
    target: Target = None,
    fit: Fit = FitChoice.contain,
    color_fix: ColorFixOption = ColorFixChoice.wavelet,
    detail: Detail = 1.0,
    tile: TileOption = "auto",
    tile_batch: TileBatch = 1,
    backend: Backend = BackendChoice.auto,
    device: Device = "auto",
    dtype: Dtype = DtypeChoice.auto,
    compile: Compile = False,
    quantize: Quantize = None,
    seed: Seed = None,
    format: Format = None,
    quality: Quality = None,
    subsampling: Subsampling = SubsamplingChoice.full,
    lossless: Lossless = False,
    compression: Compression = 4,
    icc: Icc = IccChoice.keep,
    overwrite: Overwrite = False,
    max_pixels: MaxPixels = 100_000_000,
    preset: Preset = PresetChoice.default,
) -> None:
    """Restore and enlarge images.

    Existing results are skipped. If a file fails, it is reported, the others continue, and the exit status is 1.
    """
    started = time.perf_counter()
    with errors_reported(), ProgressBars() as bars:
        from tsdsr.images.writing import WriteOptions
        from tsdsr.pipeline.files import check_targets, pending, plan_jobs
        from tsdsr.pipeline.options import RestoreOptions

        size = parse_target(target)
        options = RestoreOptions(
            scale, size, fit.value, color_fix.value, detail, parse_tile(tile), tile_batch=tile_batch
        )
        check_preset(preset, options, seed)
        written = WriteOptions(quality, subsampling.value, lossless, compression)
        jobs = plan_jobs(inputs, output, f".{format.lower().lstrip('.')}" if format else None)
        jobs = check_targets(jobs, options)
        restore: Restore = _unneeded
        if pending(jobs, overwrite):
            pipe = _open(model, backend, device, dtype, quantize, compile)
            restore = _restore(pipe, options, seed, icc, preset, bars)
        counts = _run(jobs, restore, overwrite, max_pixels, written, bars)
    seconds = time.perf_counter() - started
    done, skipped, failed = counts["done"], counts["skipped"], counts["failed"]
    typer.echo(f"{done} upscaled, {skipped} skipped (already there), {failed} failed in {seconds:.1f} s")
    if done:
        typer.echo(f"written to {jobs[0].destination if len(jobs) == 1 else output}")
    if failed:
        raise typer.Exit(1)


def parse_target(text: str | None) -> tuple[int, int] | None:
    """Parse ``WxH`` to (width, height).

    Raises:
        InvalidInputError: ``text`` has another form.
    """
    if text is None:
        return None
    parts = text.lower().split("x")
    if len(parts) != 2 or not all(part.isdecimal() and int(part) for part in parts):
        raise InvalidInputError(f"--target takes WIDTHxHEIGHT in pixels, such as 1920x1080, got {text!r}")
    return int(parts[0]), int(parts[1])


def parse_tile(text: str) -> Tile:
    """Parse ``auto``, ``off`` or a number to the pipeline's ``tile`` argument.

    Raises:
        InvalidInputError: ``text`` is none of these.
    """
    if text == "auto":
        return "auto"
    if text == "off":
        return None
    if not text.isdecimal():
        raise InvalidInputError(f"--tile takes 'auto', 'off' or a number of pixels, got {text!r}")
    return int(text)


def check_preset(preset: PresetChoice, options: RestoreOptions, seed: int | None) -> None:
    """Check that the options are compatible with the preset.

    Raises:
        InvalidInputError: they are not.
    """
    if preset is not PresetChoice.upstream:
        return
    if options.target_size or options.tile != "auto" or seed is not None or options.detail != 1:
        raise InvalidInputError("--preset upstream has its own ways: no --target, --tile, --seed or --detail")
    from tsdsr.pipeline.upstream import check_upstream_scale

    check_upstream_scale(options.scale)


def _open(
    model: str,
    backend: BackendChoice,
    device: str,
    dtype: DtypeChoice,
    quantize: QuantizeChoice | None,
    compile: bool,
) -> OneStepSRPipeline:
    """Load the model and apply the requested optimisations."""
    from diffusers.utils.logging import disable_progress_bar

    from tsdsr.devices import choose_device
    from tsdsr.optimize.compile import compile_pipeline, require_compiler
    from tsdsr.runtimes.open_model import open_pipeline

    if compile:
        require_compiler(choose_device(device))
    disable_progress_bar()  # the bar of diffusers over the three parts of a folder
    pipe = open_pipeline(model, backend.value, device, dtype.value, say=lambda text: typer.echo(text, err=True))
    quantize_pipeline(pipe, quantize)
    return compile_pipeline(pipe) if compile else pipe  # last, so that the final network is compiled


def _restore(
    pipe: OneStepSRPipeline,
    options: RestoreOptions,
    seed: int | None,
    icc: IccChoice,
    preset: PresetChoice,
    bars: ProgressBars,
) -> Restore:
    """Wrap the model as a function from picture to picture, with a progress bar for tiles of large images."""
    if preset is PresetChoice.upstream:
        return _upstream_restore(pipe, options, icc)
    from tsdsr.pipeline.tile_plan import check_tile
    from tsdsr.pipeline.upscale import picture_restorer

    check_tile(pipe.spec, options.tile)
    return picture_restorer(pipe, options, seed, icc.value, lambda done, total: bars.report("tiles", done, total))


def _upstream_restore(pipe: OneStepSRPipeline, options: RestoreOptions, icc: IccChoice) -> Restore:
    import numpy as np

    from tsdsr.images.icc import to_srgb
    from tsdsr.images.picture import Picture
    from tsdsr.pipeline.upstream import check_upstream_model, upscale_like_upstream

    check_upstream_model(pipe.spec)

    def restore(picture: Picture) -> Picture:
        picture = to_srgb(picture) if icc is IccChoice.srgb else picture
        result = upscale_like_upstream(pipe, picture.to_image(), options.scale, options.color_fix)
        plain = picture.alpha is None and picture.max_value == 255 and not picture.grey
        notices = picture.notices if plain else (*picture.notices, "the upstream preset works in RGB of 8 bits")
        return Picture(np.asarray(result), None, picture.metadata, notices)

    return restore


def _unneeded(picture: Picture) -> Picture:
    """Stand in for the model if every job is already done or has failed."""
    raise AssertionError("no job is left that needs a model")


def _run(
    jobs: Sequence[Job],
    restore: Restore,
    overwrite: bool,
    max_pixels: int,
    options: WriteOptions,
    bars: ProgressBars,
) -> Counter[str]:
    from tsdsr.pipeline.files import run_jobs

    counts: Counter[str] = Counter()
    bars.report("images", 0, len(jobs))
    started = time.perf_counter()
    for result in run_jobs(jobs, restore, overwrite, max_pixels, options):
        for notice in result.notices:
            typer.echo(f"note: {result.job.source}: {notice}", err=True)
        counts[result.status] += 1
        if result.error is not None:
            typer.echo(f"failed: {result.error}", err=True)
        bars.report("images", counts.total(), len(jobs), _rate(counts["done"], time.perf_counter() - started))
    return counts


def _rate(finished: int, seconds: float) -> str:
    """Format the speed in the most readable unit."""
    if not finished or seconds <= 0:
        return ""
    per_second = finished / seconds
    return f"{per_second:.1f} images/s" if per_second >= 1 else f"{1 / per_second:.1f} s/image"
