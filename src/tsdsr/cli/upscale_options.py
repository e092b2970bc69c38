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
    list[str], typer.Argument(metavar="INPUT", help="Image files, folders or patterns; '-' is the standard input.")
]
Output = Annotated[
    str,
    typer.Option("-o", "--output", help="Output folder, or file for a single input file; '-' is the standard output."),
]
Model = Annotated[str, typer.Option(help="'mini', a pipeline or exported folder, or a hub id: OWNER/NAME[@REVISION].")]
Scale = Annotated[float, typer.Option(help="Enlargement from 1 to 8, fractions allowed.")]
Target = Annotated[str | None, typer.Option(metavar="WxH", help="Size of the result instead of a scale; see --fit.")]
Fit = Annotated[
    FitChoice,
    typer.Option(help="'contain' keeps the aspect and stays within WxH, 'cover' fills it and crops, or 'stretch'."),
]
ColorFixOption = Annotated[ColorFixChoice, typer.Option(help="How colours are aligned.")]
Steady = Annotated[
    float,
    typer.Option(
        min=0,
        max=0.95,
        help="Less flicker: share of the detail that still areas take from the frame before, 0 to 0.95.",
    ),
]
Detail = Annotated[float, typer.Option(min=0, max=1, help="0 faithful … 1 detailed, as trained.")]
TileOption = Annotated[str, typer.Option(help="'auto', 'off' or the edge of a tile in output pixels.")]
TileBatch = Annotated[int, typer.Option(min=1, help="Tiles processed together.")]
EngineOption = Annotated[EngineChoice, typer.Option(help="What runs the model; 'auto' takes the fastest one here.")]
Provider = Annotated[
    str,
    typer.Option(
        help="Of ONNX Runtime: 'auto', 'cpu', 'cuda', 'tensorrt', 'coreml', 'directml', 'webgpu' or 'openvino'; "
        "'tsdsr info' lists those that are here."
    ),
]
Fast = Annotated[bool, typer.Option("--fast", help="8-bit arithmetic for mini, on processors with VNNI.")]
Device = Annotated[str, typer.Option(help="Of PyTorch: 'auto', 'cpu', 'cuda', 'cuda:1', 'mps' …; OpenVINO has 'gpu'.")]
Dtype = Annotated[DtypeChoice, typer.Option(help="Precision of the network.")]
Compile = Annotated[
    bool, typer.Option("--compile", help="Compile the networks: slow to start, worth it for many images.")
]
Quantize = Annotated[
    QuantizeChoice | None, typer.Option(help="Run large models in 8 bits (needs the extra 'quantize').")
]
Seed = Annotated[int | None, typer.Option(help="Sample the encoder's posterior with this seed, 0 to 2**64 - 1.")]
Format = Annotated[str | None, typer.Option(help="png, jpg, webp, tiff, bmp, avif, heic or jxl; default the input's.")]
Quality = Annotated[
    int | None, typer.Option(help="Of JPEG, WebP and JPEG XL (default 95), AVIF and HEIC (default 90), 1 to 100.")
]
Subsampling = Annotated[SubsamplingChoice, typer.Option(help="Of colour in JPEG, AVIF and HEIC; 444 keeps it all.")]
Lossless = Annotated[bool, typer.Option("--lossless", help="WebP and JPEG XL without loss.")]
Compression = Annotated[int, typer.Option(help="Of PNG and TIFF, 0 (fast) to 9 (small); never loses.")]
Icc = Annotated[IccChoice, typer.Option(help="'keep' colours and profile, or convert to 'srgb', HDR too.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace results that exist.")]
MaxPixels = Annotated[int, typer.Option(min=1, help="Refuse inputs with more pixels.")]
Preset = Annotated[PresetChoice, typer.Option(help="'upstream' reproduces the released code (SD3).")]

On = Annotated[
    str | None,
    typer.Option(
        metavar="ray[=ADDRESS]",
        help="Restore on a Ray cluster: at an address, the job's, or a new one here. INPUT and --output may be URLs.",
    ),
]
Actors = Annotated[
    str | None, typer.Option(metavar="MIN[:MAX]", help="Processes of the cluster, one model each; default what fits.")
]
ActorCpus = Annotated[float | None, typer.Option(help="CPUs of an actor; default 1.")]
ActorGpus = Annotated[float | None, typer.Option(help="GPUs of an actor, such as 1 or 0.25; default 0.")]


def parse_target(text: str | None) -> tuple[int, int] | None:
    """Parse ``WxH`` to (width, height).

    Raises:
        InvalidInputError: ``text`` has another form.
    """
    if text is None:
        return None
    sides = re.fullmatch(r"0*([1-9]\d{0,8})x0*([1-9]\d{0,8})", text.lower(), re.ASCII)
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
