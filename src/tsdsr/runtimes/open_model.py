"""Load any model in the engine that starts and runs fastest, or in a given one.

Models for ONNX Runtime and OpenVINO that are not exported yet are exported on first use and cached. torch is imported
only if the engine needs it.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Literal, get_args

from tsdsr import __version__
from tsdsr.errors import (
    FileWriteError,
    InvalidInputError,
    MissingDependencyError,
    ModelNotFoundError,
    WeightsError,
    require_torch,
)
from tsdsr.files import StrPath
from tsdsr.hashing import hash_model, hash_text
from tsdsr.pipeline.model_files import base_model, has_graph, is_exported, is_plain_mini, resolve_model
from tsdsr.pipeline.options import is_count
from tsdsr.pipeline.sr_pipeline import SRPipeline
from tsdsr.processor import has_gpu, multiplies_bf16
from tsdsr.runtimes.export_index import Backend, ExportIndex
from tsdsr.runtimes.exported_pipeline import load_exported
from tsdsr.runtimes.graph_openers import opener, require_no_device, runtime_dtype, short_dtype
from tsdsr.runtimes.onnx_mini import load_onnx_mini

if TYPE_CHECKING:
    import torch

logger = logging.getLogger(__name__)

Chosen = Literal["onnx", "torch", "openvino"]
Engine = Literal["auto", "onnx", "torch", "openvino"]
ENGINES: tuple[Engine, ...] = get_args(Engine)
"""What can run a model."""

_TORCH_OF_MINI = ("torch", "safetensors")
"""Packages that `mini` needs in torch."""

WORTH_TORCH = 5_000_000
"""Pixels of results from which torch makes up for its start: 1.7 s, at 0.35 s less per million in bf16 on 2 cores."""


def load_pipeline(
    model: StrPath = "mini",
    device: str | torch.device = "auto",
    dtype: str | torch.dtype = "auto",
    *,
    engine: Engine = "auto",
    provider: str = "auto",
    fast: bool = False,
    threads: int | None = None,
    pixels: int | None = None,
    cache: StrPath | None = None,
    say: Callable[[str], None] = lambda _: None,
    revision: str | None = None,
) -> SRPipeline:
    """Load a model for restoring.

    Args:
        model (str | PathLike): "mini" (comes with the package), a pipeline folder, an exported folder, or a model on
            the hub, "owner/name" or "owner/name@revision", which is downloaded once.
        device: "auto", or a device of torch ("cpu", "cuda", "cuda:1", "mps") or OpenVINO ("cpu", "gpu", "npu").
        dtype: "auto", "fp32", "fp16" or "bf16"; see :func:`~tsdsr.devices.choose_dtype`. ONNX Runtime computes in the
            precision of the graph, float32 for `mini`.
        engine ("auto" | "onnx" | "torch" | "openvino"): what runs the model. "auto" uses an exported folder's own
            engine, and torch for models without a graph. For `mini`, it uses torch if torch is installed, a GPU or
            bfloat16 hardware makes it faster, and the job is large enough. Otherwise it uses ONNX Runtime.
        provider (str): execution provider of ONNX Runtime; "auto" uses the best available one.
        fast (bool): run `mini` in 8-bit integers, with ONNX Runtime on a processor that has VNNI.
        threads (int | None): CPU threads of ONNX Runtime and OpenVINO; default: one per core.
        pixels (int | None): pixels of all results, if known; a small job then does not wait for torch's import.
        cache (str | PathLike | None): folder of cached exports; default: ``$TSDSR_CACHE``, then ``~/.cache/tsdsr``.
        say (callable): called with a message when an export starts.
        revision (str | None): branch, tag or commit of a model on the hub; None is the main branch.

    Returns:
        SRPipeline: call it as ``load_pipeline()(image, scale=4).images``.

    Raises:
        InvalidInputError: unknown engine, or an argument or model that this engine does not support.
        ModelNotFoundError: the model does not exist.
        GatedModelError: the hub requires an accepted licence or a login.
        WeightsError: configuration and weights do not match, or a weight is not finite.
        MissingDependencyError: what the engine needs is not installed.
        OutOfMemoryError: the weights do not fit into memory.
    """
    if threads is not None and not is_count(threads, 1):
        raise InvalidInputError(f"threads must be None or a whole number of at least 1, got {threads!r}")
    folder = resolve_model(model, revision)
    chosen = choose_engine(folder, str(device), str(dtype), engine, provider, pixels, fast)
    if is_exported(folder):
        return load_exported(folder, str(device), str(dtype), threads, provider)
    if chosen == "torch":
        return _load_in_torch(folder, os.fspath(model), device, dtype, engine)
    if chosen == "onnx" and has_graph(folder):
        _check_onnx(str(device), str(dtype))
        return load_onnx_mini(folder, provider, threads, fast)
    _check_before_export(chosen, str(device), str(dtype), threads, provider)
    exported = cached_export(folder, chosen, short_dtype(dtype), cache, say, os.fspath(model))
    return _load_cached(exported, folder, str(device), str(dtype), threads, provider)


def _load_in_torch(
    folder: Path, name: str, device: str | torch.device, dtype: str | torch.dtype, engine: Engine
) -> SRPipeline:
    """Load a pipeline folder in torch; `mini` needs no diffusers.

    Raises:
        MissingDependencyError: a package is not installed.
    """
    what = f"{name} {_why_torch(str(device), str(dtype), engine)}" if is_plain_mini(folder) else name
    if base_model(folder) == "mini" and not has_graph(folder):
        what = f"{name} has no graph for ONNX Runtime ('tsdsr graph {name}' makes it), and in torch it"
    if is_plain_mini(folder):
        require_torch(what, packages=_TORCH_OF_MINI)
        from tsdsr.pipeline.torch_pipeline import load_torch_mini

        return load_torch_mini(folder, device, dtype)
    require_torch(what)
    from tsdsr.pipeline.diffusers_loading import load_diffusers_pipeline

    return load_diffusers_pipeline(folder, device, dtype)


def _why_torch(device: str, dtype: str, engine: Engine) -> str:
    """Return the argument that made :func:`choose_engine` take torch for `mini`, as a message names it."""
    if engine == "auto" and device not in ("auto", "cpu"):
        return f"on the device {device!r}"
    if engine == "auto" and short_dtype(dtype) not in ("auto", "fp32"):
        return f"in {short_dtype(dtype)}"
    return "in torch"


def choose_engine(
    folder: Path,
    device: str = "auto",
    dtype: str = "auto",
    engine: str = "auto",
    provider: str = "auto",
    pixels: int | None = None,
    fast: bool = False,
) -> Chosen:
    """Return the engine that :func:`load_pipeline` uses for the model in ``folder``.

    The model is not loaded. Before torch is chosen for its speed, it is imported, because its installation can be
    broken.

    Raises:
        InvalidInputError: unknown engine, or one that does not support the model, the provider or ``fast``.
    """
    if engine not in ENGINES:
        raise InvalidInputError(f"unknown engine {engine!r}; choose from {', '.join(ENGINES)}")
    if provider != "auto" and engine not in ("auto", "onnx"):
        raise InvalidInputError(f"provider {provider!r} is one of ONNX Runtime, not of {engine}: leave it out")
    if fast and (engine not in ("auto", "onnx") or is_exported(folder) or base_model(folder) != "mini"):
        what = folder.name if engine in ("auto", "onnx") else f"{folder.name} in {engine}"
        raise InvalidInputError(f"{what}: 'fast' is for mini in ONNX Runtime; leave it out")
    if fast and not has_graph(folder):
        raise InvalidInputError(
            f"{folder}: has no graph; leave out 'fast', or run 'tsdsr graph {folder} --int8 PICTURES'"
        )
    if is_exported(folder):
        own = ExportIndex.read(folder).backend
        if engine not in ("auto", own):
            raise InvalidInputError(f"{folder}: is exported for {own}, not for {engine}")
        if provider != "auto" and own != "onnx":
            raise InvalidInputError(
                f"{folder}: is exported for {own}, and provider {provider!r} is one of ONNX Runtime"
            )
        return own
    if engine != "auto":
        return engine
    if provider != "auto" or fast:
        return "onnx"
    if not has_graph(folder) or device not in ("auto", "cpu") or short_dtype(dtype) not in ("auto", "fp32"):
        return "torch"
    faster = (device == "auto" and has_gpu()) or (dtype == "auto" and multiplies_bf16())
    if not faster or find_spec("torch") is None or (pixels is not None and pixels < WORTH_TORCH):
        return "onnx"
    try:
        require_torch("mini in torch", packages=_TORCH_OF_MINI)
    except MissingDependencyError as error:
        logger.warning("%s; ONNX Runtime runs mini instead", error)
        return "onnx"
    return "torch" if _torch_accelerates(device, dtype) else "onnx"


def _torch_accelerates(device: str, dtype: str) -> bool:
    """Return whether torch, once imported, has a GPU or takes 16 bits: a GPU's driver says nothing about its build."""
    from tsdsr.devices import choose_device, choose_dtype

    chosen = choose_device(device)
    return chosen.type != "cpu" or choose_dtype(dtype, chosen).itemsize == 2


def _check_onnx(device: str, dtype: str) -> None:
    """Check device and precision for mini's graph in ONNX Runtime.

    Raises:
        InvalidInputError: they ask for what only torch does.
    """
    require_no_device(device)
    if short_dtype(dtype) not in ("auto", "fp32"):
        raise InvalidInputError(f"ONNX Runtime computes mini in fp32: leave out the dtype {dtype!r}, or use torch")


def _load_cached(cached: Path, folder: Path, device: str, dtype: str, threads: int | None, provider: str) -> SRPipeline:
    """Open the cached export of the model in ``folder``.

    Raises:
        WeightsError: a file of the cache is missing or damaged.
        TSDSRError: see :func:`load_exported`.
    """
    try:
        pipe = load_exported(cached, device, dtype, threads, provider)
    except (ModelNotFoundError, WeightsError) as error:
        reason = str(error).split(";", 1)[0]
        raise WeightsError(
            f"the cached export is damaged ({reason}); delete the folder {cached} and run again"
        ) from error
    pipe.folder = folder
    return pipe


def _check_before_export(backend: Backend, device: str, dtype: str, threads: int | None, provider: str) -> None:
    """Refuse what the finished export would refuse: making it takes a minute or more.

    Raises:
        TSDSRError: see :func:`load_exported`.
    """
    stored = "fp16" if short_dtype(dtype) == "fp16" else "fp32"
    opener(backend, device, runtime_dtype(backend, stored, dtype, device), provider, threads)


def cached_export(
    model: StrPath,
    backend: Backend,
    dtype: str = "auto",
    cache: StrPath | None = None,
    say: Callable[[str], None] = lambda _: None,
    name: str | None = None,
) -> Path:
    """Return the folder of a model's export, named by a hash of the model's files. Export if it does not exist.

    Args: see :func:`load_pipeline`; ``name`` is what messages call the model.

    Raises:
        TSDSRError: the model cannot be loaded or exported.
    """
    folder, name = resolve_model(model), name or os.fspath(model)
    stored = "fp16" if backend == "onnx" and dtype == "fp16" else "fp32"
    root = Path(cache) if cache else Path(os.environ.get("TSDSR_CACHE") or Path.home() / ".cache" / "tsdsr")
    digest = hash_text(f"{__version__} {backend} {stored} {hash_model(folder)}")[:20]
    target = root / "exported" / f"{folder.resolve().name}-{backend}-{digest}"
    if not is_exported(target):
        require_torch(f"exporting {name}", backend)
        say(f"exporting {name} for {backend}, once, to {target}")
        from tsdsr.pipeline.diffusers_loading import load_diffusers_pipeline
        from tsdsr.runtimes.export import export_pipeline

        try:
            export_pipeline(load_diffusers_pipeline(model, "cpu", stored), target, backend)
        except (FileWriteError, InvalidInputError):
            if not is_exported(target):  # unless another process was faster
                raise
    return target
