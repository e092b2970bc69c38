"""Systems of ``tsdsr compare``, as they are given on the command line."""

from __future__ import annotations

import os
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tsdsr.errors import InvalidInputError

if TYPE_CHECKING:
    from PIL import Image

    from tsdsr.evaluation.system import System
    from tsdsr.pipeline.sr_pipeline import SRPipeline


def open_system(text: str, scale: int, device: str, dtype: str) -> System:
    """Open a system given as ``[NAME=]SYSTEM[,engine=ENGINE][,fast]``.

    The name ends at the first ``=``. An existing path needs no name, and its commas begin no options.

    Raises:
        InvalidInputError: an empty name or system, a name that cannot be used, or options of another kind of system.
        ModelError: the model does not exist or cannot be used.
    """
    import dataclasses

    from tsdsr.evaluation.peers import INTERPOLATIONS, PEER_SUFFIXES, interpolation, load_peer
    from tsdsr.evaluation.system import System
    from tsdsr.pipeline.model_files import is_model

    label, equals, value = text.partition("=")
    if not equals or os.path.lexists(text) or label.endswith(",engine"):
        label, value = "", text
    if not value.strip() or (equals and not label and value != text):
        raise InvalidInputError(f"{text!r}: give a system, or NAME=SYSTEM")
    value, engine, fast = _split_options(value)
    path = Path(value)
    if (engine or fast) and (value in INTERPOLATIONS or (path.exists() and not is_model(path))):
        raise InvalidInputError(f"{text!r}: only pipelines have engines; leave out the options")
    if value in INTERPOLATIONS:
        system = interpolation(value, scale)
    elif path.is_dir() and not is_model(path):
        system = System(label or path.resolve().name, folder=path)
    elif path.suffix.lower() in PEER_SUFFIXES:
        system = load_peer(path, scale, device, name=label or None)
    elif path.is_file():
        raise InvalidInputError(
            f"{value}: is not a weight file; weight files end in {', '.join(sorted(PEER_SUFFIXES))}"
        )
    else:
        system = _pipeline_system(value, scale, device, dtype, label, engine, fast)
    return dataclasses.replace(system, name=label) if label else system


def _split_options(text: str) -> tuple[str, str | None, bool]:
    """Split ``SYSTEM[,engine=ENGINE][,fast]`` into the system, the engine and whether it is to be fast."""
    engine, fast = None, False
    while not os.path.lexists(text):
        rest, _, option = text.rpartition(",")
        if rest and option == "fast":
            fast = True
        elif rest and option.startswith("engine="):
            engine = option.removeprefix("engine=")
        else:
            break
        text = rest
    return text, engine, fast


def _pipeline_system(
    model: str, scale: int, device: str, dtype: str, label: str, engine: str | None, fast: bool
) -> System:
    """Open a one-step pipeline, with its network separate for timing: in diffusers, or in a given engine."""
    from tsdsr.evaluation.system import System
    from tsdsr.hashing import hash_model
    from tsdsr.measuring import Stopwatch
    from tsdsr.pipeline.model_files import resolve_model

    folder = resolve_model(model)
    chosen = engine is not None or fast
    opened = (
        _open_engine(folder, device, dtype, engine or "auto", fast)
        if chosen
        else _open_diffusers(folder, device, dtype)
    )
    pipe, device, precision, parameters = opened

    def restore(image: Image.Image) -> Image.Image:
        result: Image.Image = pipe(image, scale).images[0]
        return result

    def network(image: Image.Image) -> float:
        watch = Stopwatch(pipe.array_device)
        with watch.listening():
            restore(image)
        return watch.seconds["denoise"]

    made_from = {
        "system": "pipeline",
        "weights": hash_model(folder),
        "scale": scale,
        "device": device.partition(":")[0],
        "dtype": precision,
        **({"engine": pipe.engine, "fast": fast} if chosen else {}),
    }
    return System(label or Path(model).name, restore, None, network, parameters, device, precision, made_from=made_from)


Opened = tuple["SRPipeline", str, str, int]
"""Pipeline, device, precision, number of parameters."""


def _open_diffusers(folder: Path, device: str, dtype: str) -> Opened:
    from diffusers.utils.logging import disable_progress_bar

    from tsdsr.pipeline.diffusers_loading import load_diffusers_pipeline

    disable_progress_bar()
    pipe = load_diffusers_pipeline(folder, device, dtype)
    parameters = sum(p.numel() for module in (pipe.denoiser, pipe.vae) for p in module.parameters())
    return pipe, str(pipe.device), str(pipe.dtype).removeprefix("torch."), parameters


def _open_engine(folder: Path, device: str, dtype: str, engine: Any, fast: bool) -> Opened:
    """Open a pipeline in an engine. With the processor as the device, ONNX Runtime computes there too.

    Raises:
        TSDSRError: see :func:`tsdsr.load_pipeline`.
    """
    from tsdsr.models.network_config import WEIGHTS
    from tsdsr.pipeline.torch_pipeline import TorchPipeline
    from tsdsr.runtimes.open_model import load_pipeline
    from tsdsr.safetensors_header import read_header

    in_onnx = engine == "onnx" or (fast and engine == "auto")
    provider = "cpu" if in_onnx and device == "cpu" else "auto"
    pipe = load_pipeline(
        folder,
        "auto" if in_onnx else device,
        dtype,
        engine=engine,
        provider=provider,
        fast=fast,
    )
    stored = (folder / part / WEIGHTS for part in ("denoiser", "vae"))
    parameters = sum(prod(one.shape) for path in stored if path.is_file() for one in read_header(path).values())
    if isinstance(pipe, TorchPipeline):
        return pipe, str(pipe.device), str(pipe.dtype).removeprefix("torch."), parameters
    return pipe, "cpu", "8 bits" if fast else {2: "16 bits", 4: "float32"}[pipe.dtype_bytes], parameters
