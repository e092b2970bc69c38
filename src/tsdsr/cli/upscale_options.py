"""Arguments of ``tsdsr upscale``."""

from __future__ import annotations

import re
from enum import Enum
from typing import TYPE_CHECKING, Annotated

import typer

from tsdsr.cli.common import DtypeChoice
from tsdsr.cli.fold import QuantizeChoice
from tsdsr.errors import InvalidInputError, require_torch

if TYPE_CHECKING:
    from tsdsr.pipeline.options import RestoreOptions, Tile


class ColorFixChoice(str, Enum):
    wavelet = "wavelet"
    adain = "adain"
    none = "none"


class FitChoice(str, Enum):
    contain = "contain"
    cover = "cover"
    stretch = "stretch"


class EngineChoice(str, Enum):
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


Inputs = Annotated[
    list[str], typer.Argument(metavar="INPUT", help="Image files, folders or patterns; '-' reads from standard input.")
]
Output = Annotated[
    str,
    typer.Option("-o", "--output", help="Output folder, or a file for a single input; '-' writes to standard output."),
]
Model = Annotated[
    str, typer.Option(help="'mini', a pipeline folder, an exported folder, or a hub ID: OWNER/NAME[@REVISION].")
]
Scale = Annotated[float, typer.Option(help="How many times larger the result is, from 1 to 8. Fractions are allowed.")]
Target = Annotated[
    str | None, typer.Option(metavar="WxH", help="Size of the result in pixels, instead of a scale. See --fit.")
]
Fit = Annotated[
    FitChoice,
    typer.Option(
        help="With --target: 'contain' stays within WxH, 'cover' fills it and crops the rest, 'stretch' distorts."
    ),
]
ColorFixOption = Annotated[ColorFixChoice, typer.Option(help="How colours are matched to the input.")]
Steady = Annotated[
    float,
    typer.Option(
        min=0,
        max=0.95,
        help="Reduce flicker: share of detail (0 to 0.95) that still areas keep from the previous frame.",
    ),
]
Detail = Annotated[
    float, typer.Option(min=0, max=1, help="From 0, faithful, to 1, as detailed as the model was trained to be.")
]
TileOption = Annotated[str, typer.Option(help="'auto', 'off', or the edge of a tile in output pixels.")]
TileBatch = Annotated[int, typer.Option(min=1, help="How many tiles are processed at once.")]
EngineOption = Annotated[
    EngineChoice, typer.Option(help="Runtime for the model; 'auto' takes the fastest one installed.")
]
Provider = Annotated[
    str,
    typer.Option(
        help="Hardware for ONNX Runtime: 'auto', 'cpu', 'cuda', 'tensorrt', 'coreml', 'directml', 'webgpu' or "
        "'openvino'. 'tsdsr info' lists what is available."
    ),
]
Fast = Annotated[bool, typer.Option("--fast", help="Run mini in 8-bit arithmetic. Needs a processor with VNNI.")]
Device = Annotated[
    str, typer.Option(help="Device for PyTorch: 'auto', 'cpu', 'cuda', 'cuda:1', 'mps' …; for OpenVINO also 'gpu'.")
]
Dtype = Annotated[DtypeChoice, typer.Option(help="Precision of the network.")]
Compile = Annotated[
    bool, typer.Option("--compile", help="Compile the networks. This takes long to start and pays off for many images.")
]
Quantize = Annotated[
    QuantizeChoice | None, typer.Option(help="Run large models in 8 bits. Needs the extra 'quantize'.")
]
Seed = Annotated[
    int | None,
    typer.Option(
        help="Draw from the encoder's distribution with this seed, 0 to 2**64 - 1, instead of using its mean."
    ),
]
Format = Annotated[str | None, typer.Option(help="png, jpg, webp, tiff, bmp, avif, heic or jxl. Default: the input's.")]
Quality = Annotated[
    int | None,
    typer.Option(help="Quality from 1 to 100. Default: 95 for JPEG, WebP and JPEG XL, 90 for AVIF and HEIC."),
]
Subsampling = Annotated[
    SubsamplingChoice, typer.Option(help="Chroma subsampling of JPEG, AVIF and HEIC; 444 keeps full colour resolution.")
]
Lossless = Annotated[bool, typer.Option("--lossless", help="Write WebP and JPEG XL without loss.")]
Compression = Annotated[
    int, typer.Option(help="Effort for PNG and TIFF, from 0 (fast) to 9 (small). Both are always lossless.")
]
Icc = Annotated[IccChoice, typer.Option(help="'keep' colours and profile, or convert them, HDR included, to 'srgb'.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace existing results.")]
MaxPixels = Annotated[int, typer.Option(min=1, help="Refuse inputs with more pixels than this.")]
Preset = Annotated[PresetChoice, typer.Option(help="'upstream' reproduces the released code (SD3).")]

On = Annotated[
    str | None,
    typer.Option(
        metavar="ray[=ADDRESS]",
        help="Restore on a Ray cluster: the one at ADDRESS, the job's own, or a new one on this machine. INPUT and "
        "--output may then be URLs.",
    ),
]
Actors = Annotated[
    str | None,
    typer.Option(metavar="MIN[:MAX]", help="Actors on the cluster, each with its own model. Default: as many as fit."),
]
ActorCpus = Annotated[float | None, typer.Option(help="CPUs for each actor. Default: 1.")]
ActorGpus = Annotated[float | None, typer.Option(help="GPUs for each actor, such as 1 or 0.25. Default: 0.")]


def restore_options(
    context: typer.Context,
    scale: float,
    target: str | None,
    fit: FitChoice,
    color_fix: ColorFixChoice,
    detail: float,
    tile: str,
    tile_batch: int,
) -> RestoreOptions:
    """Return the options of a command as those of a pipeline.

    Args:
        context (typer.Context): tells whether ``--scale`` was typed or is the default; the others are the options.

    Raises:
        InvalidInputError: one is out of range or has another form, or ``--scale`` stands beside ``--target``.
    """
    from tsdsr.pipeline.options import RestoreOptions

    if target is not None and getattr(context.get_parameter_source("scale"), "name", "") == "COMMANDLINE":
        raise InvalidInputError("--scale and --target exclude each other; leave one out")
    size = parse_target(target)
    return RestoreOptions(scale, size, fit.value, color_fix.value, detail, parse_tile(tile), tile_batch=tile_batch)


def parse_target(text: str | None) -> tuple[int, int] | None:
    """Parse ``WxH`` to (width, height).

    Raises:
        InvalidInputError: ``text`` has another form.
    """
    if text is None:
        return None
    sides = re.fullmatch(r"0*([1-9]\d{0,8})[x\u00d7]0*([1-9]\d{0,8})", text.lower(), re.ASCII)
    if sides is None:
        raise InvalidInputError(f"--target takes WIDTHxHEIGHT in pixels, such as 1920x1080, got {text[:40]!r}")
    return int(sides[1]), int(sides[2])


def parse_tile(text: str) -> Tile:
    """Parse ``auto``, ``off`` or a number to the pipeline's ``tile`` argument.

    Raises:
        InvalidInputError: ``text`` is none of these.
    """
    if text == "auto":
        return "auto"
    if text == "off":
        return None
    if not re.fullmatch(r"\d{1,9}", text, re.ASCII):
        raise InvalidInputError(f"--tile takes 'auto', 'off' or a number of pixels, got {text[:40]!r}")
    return int(text)


def parse_format(text: str | None) -> str | None:
    """Convert the name of a format to a suffix, such as ".png".

    Raises:
        InvalidInputError: ``text`` is empty.
    """
    if text is None:
        return None
    if not text.strip(". "):
        raise InvalidInputError("--format is empty; give a format such as png, or leave it out")
    return f".{text.strip().lower().lstrip('.')}"


def check_arguments(
    fit: FitChoice, preset: PresetChoice, options: RestoreOptions, seed: int | None, steady: float = 0.0
) -> None:
    """Check arguments that no other function checks, and that they go together.

    Raises:
        InvalidInputError: they do not.
    """
    from tsdsr.pipeline.options import check_seed

    check_seed(seed)
    if fit is not FitChoice.contain and options.target_size is None:
        raise InvalidInputError(f"--fit {fit.value} needs --target")
    if preset is not PresetChoice.upstream:
        return
    if options.target_size or options.tile != "auto" or seed is not None or options.detail != 1 or steady:
        raise InvalidInputError(
            "--preset upstream takes no --target, --tile, --seed, --detail or --steady; leave them out"
        )
    from tsdsr.pipeline.upstream import check_upstream_scale

    check_upstream_scale(options.scale)


def check_engine(
    engine: EngineChoice,
    provider: str,
    fast: bool,
    compile: bool,
    quantize: QuantizeChoice | None,
    preset: PresetChoice,
) -> None:
    """Check options that exist in PyTorch only. Without ``--engine`` they choose it.

    Raises:
        InvalidInputError: another engine, or an option of ONNX Runtime, is given beside one.
        MissingDependencyError: PyTorch is not installed.
    """
    options = {"--compile": compile, "--quantize": quantize, "--preset upstream": preset is PresetChoice.upstream}
    for option in (name for name, given in options.items() if given):
        if engine not in (EngineChoice.auto, EngineChoice.torch):
            raise InvalidInputError(f"{option} needs PyTorch as the engine; leave out --engine {engine.value}")
        if provider != "auto":
            raise InvalidInputError(f"{option} needs PyTorch as the engine; leave out --provider {provider}")
        if fast:
            raise InvalidInputError(f"{option} needs PyTorch as the engine; leave out --fast")
        require_torch(option, "quantize" if quantize else "torch")
