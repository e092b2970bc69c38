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
from tsdsr.pipeline.diffusers_loading import load_diffusers_pipeline
from tsdsr.pipeline.diffusers_pipeline import OneStepSRPipeline
from tsdsr.pipeline.picture_restorer import restore_picture
from tsdsr.pipeline.sr_pipeline import SRPipeline
from tsdsr.pipeline.torch_pipeline import TorchMini
from tsdsr.pipeline.upstream import check_upstream_model, upscale_like_upstream
from tsdsr.pixels import to_tensor, to_uint8
from tsdsr.runtimes.open_model import ENGINES, Engine, load_pipeline

PARTS = ("read", "encode", "denoise", "decode", "colour", "write", "other")
"""Parts of a run, whose seconds add up to the total; "other" is all other stages: enlarging, blending, storing."""

PEERS = ("realesrgan", "general-x4v3")
"""Peers whose architecture is built in: Real-ESRGAN x4plus and its small general model."""

PEER_SCALE = 4
"""Enlargement of the peers."""


@dataclass(frozen=True)
class Entry:
    """A model of a benchmark, and how to run it.

    Attributes:
        model (str): see :func:`open_entry`.
        device, dtype (str): as for :func:`tsdsr.load_pipeline`.
        engine (str), fast (bool): what runs it, as for :func:`tsdsr.load_pipeline`.
        fold (bool): whether to fold it.
        quantize (str | None): quantisation mode, see :func:`tsdsr.optimize.quantize.quantize`; None: none.
        compile (bool): whether to compile its networks.
        threads (int | None): CPU threads; None uses the engine's default.
        name (str): column of the table.
    """

    model: str
    device: str = "auto"
    dtype: str = "auto"
    engine: Engine = "auto"
    fast: bool = False
    fold: bool = False
    quantize: QuantizeMode | None = None
    compile: bool = False
    threads: int | None = None
    name: str = ""

    def __post_init__(self) -> None:
        if not self.model:
            raise InvalidInputError("a benchmark entry needs a model, such as 'mini'")
        if self.threads is not None and self.threads < 1:
            raise InvalidInputError(f"threads must be at least 1, got {self.threads}")
        if self.quantize is not None and self.quantize not in QUANTIZE_MODES:
            raise InvalidInputError(f"unknown quantisation {self.quantize!r}; choose from {', '.join(QUANTIZE_MODES)}")
        if self.engine not in ENGINES:
            raise InvalidInputError(f"unknown engine {self.engine!r}; choose from {', '.join(ENGINES)}")
        choose_dtype(self.dtype, torch.device("cpu"))
        kind, _, name = self.model.rpartition(":")
        if kind in ("random", "released"):
            get_spec(name)
        if kind == "released":
            check_upstream_model(get_spec(name))
        if kind in ("released", "peer") and (self.compile or self.fold or self.quantize):
            raise InvalidInputError(f"{self.model}: runs as its authors run it; leave out fold, quantize and compile")
        if self.engine not in ("auto", "torch") and (kind or self.compile or self.fold or self.quantize):
            raise InvalidInputError(f"{self.name or self.model}: runs in torch only; leave out engine={self.engine}")
        if self.fast and (kind or self.compile or self.fold or self.quantize):
            raise InvalidInputError(f"{self.name or self.model}: runs in torch only; leave out fast")
        if kind == "peer" and name not in PEERS:
            known = ", ".join(f"peer:{peer}" for peer in PEERS)
            raise InvalidInputError(f"{self.model}: no such peer; choose from {known}")

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
        """Parse ``MODEL[,engine=onnx][,fast][,dtype=bf16][,device=cpu][,threads=2][,fold][,quantize=int8][,compile]``.

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
            elif option in ("fold", "fast"):
                values[option] = True
            elif key in ("dtype", "device", "engine", "quantize") and value:
                values[key] = value
            elif key == "threads" and value.isdecimal():
                values[key] = int(value)
            else:
                raise InvalidInputError(
                    f"{text!r}: unknown option {option!r}; known are engine=…, fast, dtype=…, device=…, "
                    "threads=N, fold, quantize=…, compile and eager"
                )
        return replace(self, model=model, name=text, **values)


class BenchModel(Protocol):
    """A model to time.

    Attributes:
        engine (str): what runs it.
        device (torch.device): device it runs on.
        dtype (str): precision of its network.
        parameters (int | None): number of weights; None if the engine does not tell.
    """

    engine: str
    device: torch.device
    dtype: str
    parameters: int | None

    def run(self, source: Path, target: Path, scale: float) -> None:
        """Enlarge one file, in stages named as in :data:`PARTS` (see :func:`tsdsr.measuring.stage`)."""
        ...


class BenchPipeline:
    """A pipeline to time, from file to file.

    Args:
        pipe (SRPipeline): a loaded pipeline.
        restore (callable): (picture, scale) → picture; default: the pipeline itself.
    """

    def __init__(self, pipe: SRPipeline, restore: Callable[[Picture, float], Picture] | None = None) -> None:
        self.pipe, self._restore = pipe, restore or self._restored
        self.engine, self.device = pipe.engine, torch.device("cpu")
        self.parameters: int | None = None
        self.dtype = {2: "16 bits", 4: "float32"}[pipe.dtype_bytes]
        if isinstance(pipe, OneStepSRPipeline | TorchMini):
            modules = (pipe.network,) if isinstance(pipe, TorchMini) else (pipe.denoiser, pipe.vae)
            self.device, self.dtype = pipe.device, str(pipe.dtype).removeprefix("torch.")
            self.parameters = count_parameters(modules)

    def run(self, source: Path, target: Path, scale: float) -> None:
        with stage("read"):
            picture = read_picture(source)
        result = self._restore(picture, scale)
        with stage("write"):
            write_picture(result, target)

    def _restored(self, picture: Picture, scale: float) -> Picture:
        return restore_picture(picture, lambda pixels: self.pipe.upscale_pixels(pixels, scale))


def as_released(pipe: OneStepSRPipeline) -> BenchPipeline:
    """Return a pipeline to time that runs like the released code."""

    def restore(picture: Picture, scale: float) -> Picture:
        return Picture(np.asarray(upscale_like_upstream(pipe, picture.to_image(), scale)))

    return BenchPipeline(pipe, restore)


class BenchNetwork:
    """A network to time, from file to file. It maps an image to an enlarged image in float32 and eager mode.

    Args:
        network (nn.Module): (1, 3, h, w) in [0, 1] → (1, 3, h * scale, w * scale).
        scale (int): enlargement of the network.
        device (torch.device): device to run on.
    """

    def __init__(self, network: nn.Module, scale: int, device: torch.device) -> None:
        self.network, self.scale = network.eval().to(device), scale
        self.engine, self.device, self.dtype = "torch", device, "float32"
        self.parameters: int | None = count_parameters((network,))

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

            * an argument of :func:`tsdsr.load_pipeline`: "mini", a folder, a hub ID;
            * ``random:NAME``: a base model's architecture with random weights;
            * ``released:NAME``: the same, run like the released code, in its precision and sizes;
            * ``peer:realesrgan``, ``peer:general-x4v3``: the networks of Real-ESRGAN x4plus and of its small general
              model with random weights, float32, for scale 4.

    Raises:
        InvalidInputError: unknown kind, or an option that this kind does not support.
        MissingDependencyError: spandrel, or a compiler, is not installed.
        ModelError: the model, device or precision cannot be used.
    """
    device = choose_device(entry.device)
    kind, _, name = entry.model.rpartition(":")
    if kind == "released":
        return as_released(released_pipeline(name, device))
    if kind == "peer":
        return BenchNetwork(_peer(name), PEER_SCALE, device)
    if not kind and not (entry.fold or entry.quantize or entry.compile):
        return BenchPipeline(
            load_pipeline(
                entry.model, entry.device, entry.dtype, engine=entry.engine, fast=entry.fast, threads=entry.threads
            )
        )
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


def _peer(name: str) -> nn.Module:
    """Build the network of a peer: 23 blocks of 64 features, or 32 convolutions of 64 features."""
    try:
        from spandrel.architectures import ESRGAN, Compact
    except (ImportError, RuntimeError) as error:  # torchvision built for another torch raises RuntimeError
        raise MissingDependencyError(f"peer:{name} needs spandrel: {install_extra('eval')} ({error})") from error
    network: nn.Module
    if name == "realesrgan":
        module = __import__(f"{ESRGAN.__name__}.__arch.RRDB", fromlist=["RRDBNet"])
        network = module.RRDBNet(in_nc=3, out_nc=3, num_filters=64, num_blocks=23, scale=PEER_SCALE)
    else:
        module = __import__(f"{Compact.__name__}.__arch.SRVGG", fromlist=["SRVGGNetCompact"])
        network = module.SRVGGNetCompact(num_feat=64, num_conv=32, upscale=PEER_SCALE, act_type="prelu")
    return network
