"""``tsdsr upscale``."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from enum import Enum
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tsdsr.cli.common import DtypeChoice, errors_reported
from tsdsr.cli.optimize import QuantizeChoice, quantize_pipeline
from tsdsr.errors import InvalidInputError

if TYPE_CHECKING:
    from rich.progress import Progress

    from tsdsr.images.picture import Picture
    from tsdsr.images.writing import WriteOptions
    from tsdsr.pipeline.files import Job, Restore
    from tsdsr.pipeline.pipeline import OneStepSRPipeline
    from tsdsr.pipeline.tile_plan import Tile


class ColorFixChoice(str, Enum):
    wavelet = "wavelet"
    adain = "adain"
    none = "none"


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


def upscale(
    inputs: Annotated[list[str], typer.Argument(metavar="INPUT...", help="Image files, folders or patterns.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="Output folder, or file for a single input file.")],
    model: Annotated[str, typer.Option(help="'mini', a pipeline or exported folder, or a hub id.")] = "mini",
    scale: Annotated[float, typer.Option(help="Enlargement from 1 to 8, fractions allowed.")] = 4.0,
    target: Annotated[str | None, typer.Option(metavar="WxH", help="Size of the result instead of a scale.")] = None,
    color_fix: Annotated[ColorFixChoice, typer.Option(help="How colours are aligned.")] = ColorFixChoice.wavelet,
    detail: Annotated[float, typer.Option(min=0, max=1, help="0 faithful … 1 detailed, as trained.")] = 1.0,
    tile: Annotated[str, typer.Option(help="'auto', 'off' or the edge of a tile in output pixels.")] = "auto",
    tile_batch: Annotated[int, typer.Option(min=1, help="Tiles processed together.")] = 1,
    backend: Annotated[
        BackendChoice, typer.Option(help="Runtime; 'auto' is PyTorch, or what a model was exported for.")
    ] = BackendChoice.auto,
    device: Annotated[str, typer.Option(help="'auto', 'cpu', 'cuda', 'cuda:1', 'mps' …")] = "auto",
    dtype: Annotated[DtypeChoice, typer.Option(help="Precision of the network.")] = DtypeChoice.auto,
    compile: Annotated[
        bool, typer.Option("--compile", help="Compile the networks: slow to start, worth it for many images.")
    ] = False,
    quantize: Annotated[
        QuantizeChoice | None, typer.Option(help="Run large models in 8 bits (needs the extra 'quantize').")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Sample the encoder's posterior with this seed.")] = None,
    format: Annotated[
        str | None, typer.Option(help="png, jpg, webp, tiff, bmp, avif or heic; default the input's.")
    ] = None,
    quality: Annotated[
        int | None, typer.Option(help="Of JPEG and WebP (default 95), AVIF and HEIC (default 90), 1 to 100.")
    ] = None,
    subsampling: Annotated[
        SubsamplingChoice, typer.Option(help="Of colour in JPEG, AVIF and HEIC; 444 keeps it all.")
    ] = SubsamplingChoice.full,
    lossless: Annotated[bool, typer.Option("--lossless", help="WebP without loss.")] = False,
    compression: Annotated[int, typer.Option(help="Of PNG and TIFF, 0 (fast) to 9 (small); never loses.")] = 4,
    icc: Annotated[IccChoice, typer.Option(help="'keep' the ICC profile, or convert to 'srgb'.")] = IccChoice.keep,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Make results again that exist.")] = False,
    max_pixels: Annotated[int, typer.Option(min=1, help="Refuse inputs with more pixels.")] = 100_000_000,
    preset: Annotated[
        PresetChoice, typer.Option(help="'upstream' repeats the released code's habits (SD3).")
    ] = PresetChoice.default,
) -> None:
    """Restore and enlarge images.

    Existing results are skipped. A file that fails is reported, the rest is done, and the exit status is 1.
    """
    started = time.perf_counter()
    with errors_reported():
        target_size, tile_value = parse_target(target), parse_tile(tile)
        own = target_size or tile_value != "auto" or seed is not None or detail != 1
        if preset is PresetChoice.upstream and own:
            raise InvalidInputError("--preset upstream has its own ways: no --target, --tile, --seed or --detail")
        from tsdsr.images.icc import to_srgb
        from tsdsr.images.writing import WriteOptions
        from tsdsr.pipeline.files import plan_jobs

        options = WriteOptions(quality, subsampling.value, lossless, compression)
        jobs = plan_jobs(inputs, output, f".{format.lower().lstrip('.')}" if format else None)
        from diffusers.utils.logging import disable_progress_bar

        from tsdsr.runtimes.open_model import open_pipeline

        disable_progress_bar()  # diffusers' own, over the three parts of a folder
        pipe = open_pipeline(model, backend.value, device, dtype.value, say=lambda text: typer.echo(text, err=True))
        quantize_pipeline(pipe, quantize)
        if compile:  # last: what is compiled is what runs
            from tsdsr.optimize.compile import compile_pipeline

            compile_pipeline(pipe)
    with _progress() as progress:
        if preset is PresetChoice.upstream:
            restore = _upstream_restore(pipe, scale, color_fix)
        else:
            restore = _restore(pipe, scale, target_size, color_fix, detail, tile_value, tile_batch, seed, progress)
        prepared = restore if icc is IccChoice.keep else lambda picture: restore(to_srgb(picture))
        counts = _run(jobs, prepared, overwrite, max_pixels, options, progress)
    seconds = time.perf_counter() - started
    done, skipped, failed = counts["done"], counts["skipped"], counts["failed"]
    typer.echo(f"{done} upscaled, {skipped} skipped (already there), {failed} failed in {seconds:.1f} s")
    if done:
        typer.echo(f"written to {jobs[0].destination if len(jobs) == 1 else output}")
    if failed:
        raise typer.Exit(1)


def parse_target(text: str | None) -> tuple[int, int] | None:
    """``WxH`` → (width, height).

    Raises:
        InvalidInputError: anything else.
    """
    if text is None:
        return None
    parts = text.lower().split("x")
    if len(parts) != 2 or not all(part.isdecimal() and int(part) for part in parts):
        raise InvalidInputError(f"--target takes WIDTHxHEIGHT in pixels, such as 1920x1080, got {text!r}")
    return int(parts[0]), int(parts[1])


def parse_tile(text: str) -> Tile:
    """``auto``, ``off`` or a number → the pipeline's ``tile`` argument.

    Raises:
        InvalidInputError: anything else.
    """
    if text == "auto":
        return "auto"
    if text == "off":
        return None
    if not text.isdecimal():
        raise InvalidInputError(f"--tile takes 'auto', 'off' or a number of pixels, got {text!r}")
    return int(text)


def _progress() -> Progress:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(),
    )
    return Progress(*columns, console=Console(stderr=True), transient=True)


def _rate(finished: int, seconds: float) -> str:
    """Speed in the unit that reads best."""
    if not finished or seconds <= 0:
        return ""
    per_second = finished / seconds
    return f"{per_second:.1f} images/s" if per_second >= 1 else f"{1 / per_second:.1f} s/image"


def _run(
    jobs: Sequence[Job],
    restore: Restore,
    overwrite: bool,
    max_pixels: int,
    options: WriteOptions,
    progress: Progress,
) -> Counter[str]:
    from tsdsr.pipeline.files import run_jobs

    counts: Counter[str] = Counter()
    task = progress.add_task("images", total=len(jobs), rate="")
    started = time.perf_counter()
    for result in run_jobs(jobs, restore, overwrite, max_pixels, options):
        for notice in result.notices:
            typer.echo(f"note: {result.job.source}: {notice}", err=True)
        counts[result.status] += 1
        if result.error is not None:
            typer.echo(f"failed: {result.error}", err=True)
        progress.update(task, advance=1, rate=_rate(counts["done"], time.perf_counter() - started))
    return counts


def _restore(
    pipe: OneStepSRPipeline,
    scale: float,
    target_size: tuple[int, int] | None,
    color_fix: ColorFixChoice,
    detail: float,
    tile: Tile,
    tile_batch: int,
    seed: int | None,
    progress: Progress,
) -> Restore:
    """The default pipeline as picture → picture, with a bar for the tiles of large images."""
    import torch

    from tsdsr.pipeline.files import restore_picture

    tiles = progress.add_task("tiles", total=1, rate="", visible=False)

    def on_tile(done: int, total: int) -> None:
        progress.update(tiles, completed=done, total=total, visible=total > 1 and done < total)

    def restore(picture: Picture) -> Picture:
        generator = None if seed is None else torch.Generator(pipe.device).manual_seed(seed)
        enlarge = partial(
            pipe.upscale_pixels,
            scale=scale,
            target_size=target_size,
            color_fix=color_fix.value,
            detail=detail,
            tile=tile,
            tile_batch=tile_batch,
            generator=generator,
            on_tile=on_tile,
        )
        return restore_picture(picture, enlarge)

    return restore


def _upstream_restore(pipe: OneStepSRPipeline, scale: float, color_fix: ColorFixChoice) -> Restore:
    import numpy as np

    from tsdsr.images.picture import Picture
    from tsdsr.pipeline.upstream import upscale_like_upstream

    def restore(picture: Picture) -> Picture:
        result = upscale_like_upstream(pipe, picture.to_image(), scale, color_fix.value)
        plain = picture.alpha is None and picture.full == 255 and not picture.grey
        notices = picture.notices if plain else (*picture.notices, "the upstream preset works in RGB of 8 bits")
        return Picture(np.asarray(result), None, picture.metadata, notices)

    return restore
