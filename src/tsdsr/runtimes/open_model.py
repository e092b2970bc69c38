"""Open any model in any runtime. Models that are not exported yet are exported on first use and cached."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from tsdsr import __version__
from tsdsr.errors import InvalidInputError, ModelNotFoundError, WeightsError
from tsdsr.files import StrPath
from tsdsr.hashing import hash_model, hash_text
from tsdsr.pipeline.loading import load_pipeline, resolve_model
from tsdsr.pipeline.model_files import is_exported
from tsdsr.pipeline.pipeline import OneStepSRPipeline
from tsdsr.runtimes.export import BACKENDS, Backend, ExportIndex, export_pipeline
from tsdsr.runtimes.exported_pipeline import load_exported


def open_pipeline(
    model: StrPath = "mini",
    backend: str = "auto",
    device: str = "auto",
    dtype: str = "auto",
    *,
    cache: StrPath | None = None,
    say: Callable[[str], None] = lambda _: None,
) -> OneStepSRPipeline:
    """Open a pipeline in the given runtime.

    Args:
        model: argument of :func:`~tsdsr.pipeline.loading.load_pipeline`, or an exported folder.
        backend ("auto" | "torch" | "onnx" | "openvino"): "auto" is an exported folder's own runtime, and PyTorch for
            every other model. A model that is not exported yet is exported on first use, in float32 unless ``dtype`` is
            "fp16" with ONNX Runtime.
        device, dtype (str): in the form the runtime expects.
        cache (str | PathLike | None): folder of cached exports; default: ``$TSDSR_CACHE``, then ``~/.cache/tsdsr``.
        say (callable): called with a message when an export begins.

    Raises:
        InvalidInputError: unknown backend, or the model was exported for another runtime.
        TSDSRError: see :func:`~tsdsr.pipeline.loading.load_pipeline` and :func:`load_exported`.
    """
    if backend not in ("auto", "torch", *BACKENDS):
        raise InvalidInputError(f"unknown backend {backend!r}; choose from auto, torch, {', '.join(BACKENDS)}")
    if is_exported(Path(model)):
        own = ExportIndex.read(Path(model)).backend
        if backend not in ("auto", own):
            raise InvalidInputError(f"{os.fspath(model)}: is exported for {own}, not for {backend}")
        return load_exported(model, device, dtype)
    for known in BACKENDS:
        if backend == known:
            return _load_cached(cached_export(model, known, dtype, cache, say), device, dtype)
    return load_pipeline(model, device, dtype)


def _load_cached(folder: Path, device: str, dtype: str) -> OneStepSRPipeline:
    """Open a cached export.

    Raises:
        WeightsError: a file of the cache is missing or damaged.
        TSDSRError: see :func:`load_exported`.
    """
    try:
        return load_exported(folder, device, dtype)
    except (ModelNotFoundError, WeightsError) as error:
        reason = str(error).split(";", 1)[0]
        raise WeightsError(
            f"the cached export is damaged ({reason}); delete the folder {folder} and run again"
        ) from error


def cached_export(
    model: StrPath,
    backend: Backend,
    dtype: str = "auto",
    cache: StrPath | None = None,
    say: Callable[[str], None] = lambda _: None,
) -> Path:
    """Return the folder of a model's export, named by a hash of the model's files. Export if it does not exist.

    Args: see :func:`open_pipeline`.

    Raises:
        TSDSRError: the model cannot be loaded or exported.
    """
    folder = resolve_model(model)
    stored = "fp16" if backend == "onnx" and dtype == "fp16" else "fp32"
    root = Path(cache) if cache else Path(os.environ.get("TSDSR_CACHE") or Path.home() / ".cache" / "tsdsr")
    digest = hash_text(f"{__version__} {backend} {stored} {hash_model(folder)}")[:20]
    target = root / "exported" / f"{folder.resolve().name}-{backend}-{digest}"
    if not is_exported(target):
        say(f"exporting {os.fspath(model)} for {backend}, once, to {target}")
        try:
            export_pipeline(load_pipeline(model, "cpu", stored), target, backend)
        except (OSError, InvalidInputError):
            if not is_exported(target):  # unless another process was faster
                raise
    return target
