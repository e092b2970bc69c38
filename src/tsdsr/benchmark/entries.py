"""Models that ``tsdsr bench`` can time, by name. Each enlarges a file in named stages."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import nn

from tsdsr.benchmark.random_weights import random_pipeline, released_pipeline
from tsdsr.devices import choose_device, choose_dtype
from tsdsr.errors import InvalidInputError, MissingDependencyError, install_extra
from tsdsr.images.picture import Picture
from tsdsr.images.reading import read_picture, read_rgb
from tsdsr.images.writing import write_picture
from tsdsr.measuring import stage
from tsdsr.models.zoo import get_spec
from tsdsr.optimize.compile import compile_pipeline
from tsdsr.optimize.fold import fold
from tsdsr.optimize.quantize import QUANTIZE_MODES, QuantizeMode, quantize
from tsdsr.pipeline.loading import load_diffusers_pipeline
from tsdsr.pipeline.picture_restorer import restore_picture
from tsdsr.pipeline.pipeline import OneStepSRPipeline
from tsdsr.pipeline.upstream import upscale_like_upstream
from tsdsr.pixels import to_tensor, to_uint8

PARTS = ("read", "encode", "denoise", "decode", "colour", "write", "other")
"""Parts of a run, whose seconds add up to the total; "other" is all other stages: enlarging, blending, storing."""

PEER_SCALE = 4
"""Enlargement of ``peer:realesrgan``."""


@dataclass(frozen=True)
class Entry:
    """A model of a benchmark, and how to run it.

    Attributes:
        model (str): see :func:`open_entry`.
        device, dtype (str): as for :func:`tsdsr.pipeline.loading.load_diffusers_pipeline`.
        fold (bool): whether to fold it.
        quantize (str | None): quantisation mode, see :func:`tsdsr.optimize.quantize.quantize`; None: none.
        compile (bool): whether to compile its networks.
        threads (int | None): torch threads; None uses torch's default.
        name (str): column of the table.
    """

    model: str
    device: str = "auto"
    dtype: str = "auto"
    fold: bool = False
    quantize: QuantizeMode | None = None
    compile: bool = False
    threads: int | None = None
    name: str = ""

    def __post_init__(self) -> None:
        if not self.model:
            raise InvalidInputError("a benchmark's entry needs a model, such as 'mini'")
        if self.threads is not None and self.threads < 1:
            raise InvalidInputError(f"threads must be at least 1, got {self.threads}")
        if self.quantize is not None and self.quantize not in QUANTIZE_MODES:
            raise InvalidInputError(f"unknown quantisation {self.quantize!r}; choose from {', '.join(QUANTIZE_MODES)}")
        choose_dtype(self.dtype, torch.device("cpu"))
        kind, _, name = self.model.rpartition(":")
        if kind in ("random", "released"):
            get_spec(name)
        if kind in ("released", "peer") and (self.compile or self.fold or self.quantize):
            raise InvalidInputError(f"{self.model}: runs as its authors run it; leave out fold, quantize and compile")
        if kind == "peer" and name != "realesrgan":
            raise InvalidInputError(f"{self.model}: the only peer with a built-in architecture is 'peer:realesrgan'")

    def check_scale(self, scale: float) -> None:
        """Check that the model can enlarge by a factor; nothing is loaded.

        Raises:
            InvalidInputError: it is a peer for another factor.
        """
        if self.model.startswith("peer:") and scale != PEER_SCALE:
            raise InvalidInputError(
                f"{self.model}: enlarges by {PEER_SCALE}, not by {scale:g}; give --scale {PEER_SCALE}"
            )

    def parsed(self, text: str) -> Entry:
        """Parse ``MODEL[,dtype=bf16][,device=cpu][,threads=2][,fold][,quantize=int8][,compile]``.

        Options that are not given come from this entry.

        Raises:
            InvalidInputError: unknown option or invalid value.
        """
        model, *options = text.split(",")
        values: dict[str, Any] = {}
        for option in options:
            key, _, value = option.partition("=")
            if option in ("compile", "eager"):
                values["compile"] = option == "compile"
            elif option == "fold":
                values["fold"] = True
            elif key in ("dtype", "device", "quantize") and value:
                values[key] = value
            elif key == "threads" and value.isdecimal():
                values[key] = int(value)
            else:
                raise InvalidInputError(
                    f"{text!r}: unknown option {option!r}; known are dtype=…, device=…, threads=N, fold, "
                    "quantize=…, compile and eager"
                )
        return replace(self, model=model, name=text, **values)


class BenchModel(Protocol):
    """A model to time.

    Attributes:
        device (torch.device): device it runs on.
        dtype (torch.dtype): precision of its network.
        parameters (int): number of weights.
    """

    device: torch.device
    dtype: torch.dtype
    parameters: int

    def run(self, source: Path, target: Path, scale: float) -> None:
        """Enlarge one file, in stages named as in :data:`PARTS` (see :func:`tsdsr.measuring.stage`)."""
        ...


class BenchPipeline:
    """A pipeline to time, from file to file.

    Args:
        pipe (OneStepSRPipeline): a loaded pipeline.
        restore (callable): (pipe, picture, scale) → picture; default: the pipeline itself.
    """

    def __init__(
        self,
        pipe: OneStepSRPipeline,
        restore: Callable[[OneStepSRPipeline, Picture, float], Picture] | None = None,
    ) -> None:
        self.pipe, self._restore = pipe, restore or _restored
        self.device, self.dtype = pipe.device, pipe.dtype
        self.parameters = count_parameters((pipe.denoiser, pipe.vae))

    def run(self, source: Path, target: Path, scale: float) -> None:
        with stage("read"):
            picture = read_picture(source)
        result = self._restore(self.pipe, picture, scale)
        with stage("write"):
            write_picture(result, target)


def _restored(pipe: OneStepSRPipeline, picture: Picture, scale: float) -> Picture:
    return restore_picture(picture, lambda pixels: pipe.upscale_pixels(pixels, scale))


def _restored_as_released(pipe: OneStepSRPipeline, picture: Picture, scale: float) -> Picture:
    return Picture(np.asarray(upscale_like_upstream(pipe, picture.to_image(), scale)))


class BenchNetwork:
    """A network to time, from file to file. It maps an image to an enlarged image in float32 and eager mode.

    Args:
        network (nn.Module): (1, 3, h, w) in [0, 1] → (1, 3, h * scale, w * scale).
        scale (int): enlargement of the network.
        device (torch.device): device to run on.
    """

    def __init__(self, network: nn.Module, scale: int, device: torch.device) -> None:
        self.network, self.scale = network.eval().to(device), scale
        self.device, self.dtype = device, torch.float32
        self.parameters = count_parameters((network,))

    @torch.inference_mode()
    def run(self, source: Path, target: Path, scale: float) -> None:
        if scale != self.scale:
            raise InvalidInputError(f"this peer enlarges by {self.scale}, not by {scale:g}")
        with stage("read"):
            pixels = read_rgb(source)
        x = to_tensor(pixels)[None].to(self.device)
        with stage("denoise"):
            x_hat = self.network(x)
        result = Picture(to_uint8(x_hat[0]))
        with stage("write"):
            write_picture(result, target)


def open_entry(entry: Entry) -> BenchModel:
    """Load the model of an entry.

    Args:
        entry (Entry): its model is one of

            * an argument of :func:`tsdsr.pipeline.loading.load_diffusers_pipeline`: "mini", a folder, a hub id;
            * ``random:NAME``: a base model's architecture with random weights;
            * ``released:NAME``: the same, run like the released code, in its precision and sizes;
            * ``peer:realesrgan``: the network of Real-ESRGAN x4plus with random weights, float32, for scale 4.

    Raises:
        InvalidInputError: unknown kind, or an option that this kind does not support.
        MissingDependencyError: spandrel, or a compiler, is not installed.
        ModelError: the model, device or precision cannot be used.
    """
    device = choose_device(entry.device)
    kind, _, name = entry.model.rpartition(":")
    if kind == "released":
        return BenchPipeline(released_pipeline(name, device), _restored_as_released)
    if kind == "peer":
        return BenchNetwork(_rrdbnet(), PEER_SCALE, device)
    if kind == "random":
        pipe = random_pipeline(name, device, choose_dtype(entry.dtype, device))
    else:
        pipe = load_diffusers_pipeline(entry.model, device, entry.dtype)
    if entry.fold:
        fold(pipe)
    if entry.quantize:
        quantize(pipe, entry.quantize)
    return BenchPipeline(compile_pipeline(pipe) if entry.compile else pipe)


def count_parameters(networks: Sequence[nn.Module]) -> int:
    """Count the weights."""
    return sum(parameter.numel() for network in networks for parameter in network.parameters())


def _rrdbnet() -> nn.Module:
    """Build Real-ESRGAN x4plus: 23 blocks, 64 features."""
    try:
        from spandrel.architectures import ESRGAN
    except (ImportError, RuntimeError) as error:  # torchvision built for another torch raises RuntimeError
        raise MissingDependencyError(f"peer:realesrgan needs spandrel: {install_extra('eval')} ({error})") from error
    module = __import__(f"{ESRGAN.__name__}.__arch.RRDB", fromlist=["RRDBNet"])
    network: nn.Module = module.RRDBNet(in_nc=3, out_nc=3, num_filters=64, num_blocks=23, scale=PEER_SCALE)
    return network
