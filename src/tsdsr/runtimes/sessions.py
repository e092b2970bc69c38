"""Runtimes other than torch: open a graph file as a function of one numpy array. Imports no torch."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from tsdsr.errors import InvalidInputError, MissingDependencyError, ModelError, TSDSRError, WeightsError, install_extra
from tsdsr.out_of_memory import mentions_lack_of_memory
from tsdsr.processor import multiplies_bf16
from tsdsr.runtimes.export_index import Backend

Graph = Callable[[np.ndarray], np.ndarray]
"""A network in a runtime: (1, C, h, w) → (1, C', h', w'), float32."""

_PROVIDERS = {
    "cpu": "CPUExecutionProvider",
    "cuda": "CUDAExecutionProvider",
    "directml": "DmlExecutionProvider",
    "coreml": "CoreMLExecutionProvider",
}
_HINTS = {"fp32": "f32", "bf16": "bf16", "fp16": "f16"}
_LONG_NAMES = {"float32": "fp32", "float16": "fp16", "bfloat16": "bf16"}


def runtime_dtype(backend: Backend, stored: str, dtype: str, device: str) -> str:
    """Return the precision in which a runtime will compute: "fp32", "fp16" or "bf16".

    ONNX Runtime computes in the precision of the file, OpenVINO in the requested one.

    Args:
        backend ("onnx" | "openvino"): the runtime.
        stored ("fp32" | "fp16"): precision of the file.
        dtype (str): "auto", "fp32", "fp16" or "bf16". With ONNX Runtime, "auto" is the precision of the file. With
            OpenVINO it is bfloat16 on a CPU whose hardware supports it, else float32, and float16 on other devices.
        device (str): device to compute on.

    Raises:
        ModelError: unknown precision.
        InvalidInputError: ONNX Runtime cannot compute in that precision.
    """
    named = _LONG_NAMES.get(str(dtype).removeprefix("torch."), str(dtype))
    if named != "auto" and named not in _HINTS:
        raise ModelError(f"unknown dtype {dtype!r}; choose from auto, fp32, fp16, bf16")
    if backend == "openvino":
        if named != "auto":
            return named
        if device not in ("auto", "cpu"):
            return "fp16"
        return "bf16" if multiplies_bf16() else "fp32"
    if named not in ("auto", stored):
        raise InvalidInputError(
            f"this model was exported in {stored}, and ONNX Runtime computes in nothing else: leave out the dtype, or "
            f"export again in another one (fp32, fp16)"
        )
    return stored


def opener(
    backend: Backend, device: str, dtype: str, provider: str = "auto", threads: int | None = None
) -> Callable[[Path], Graph]:
    """Return a function that opens graph files.

    Args:
        backend ("onnx" | "openvino"): the runtime.
        device (str): "auto", "cpu" or, for OpenVINO, "gpu", "gpu.1", "npu".
        dtype (str): compute precision of OpenVINO.
        provider (str): execution provider of ONNX Runtime, see :func:`open_onnx`.
        threads (int | None): CPU threads; default: one per core.

    Raises:
        MissingDependencyError: the runtime is not installed.
        InvalidInputError: the runtime has no such device.
        ModelError: the runtime does not support the device or the provider here.
    """
    if backend == "openvino":
        return _openvino_opener(device, dtype, threads)
    if device not in ("auto", "cpu"):
        raise InvalidInputError(f"ONNX Runtime has providers instead of the device {device!r}: choose a provider")
    return lambda path: open_onnx(path, provider, threads)


def open_onnx(path: Path, provider: str = "auto", threads: int | None = None) -> Graph:
    """Open a graph in ONNX Runtime.

    Args:
        path (Path): the ONNX file.
        provider (str): "auto", "cpu", "cuda", "directml" or "coreml". "auto" selects CUDA if it is there, else the CPU.
        threads (int | None): CPU threads; default: one per core.

    Raises:
        MissingDependencyError: ONNX Runtime is not installed.
        ModelError: the provider is not there.
        WeightsError: the graph cannot be loaded.
    """
    try:
        import onnxruntime
    except ImportError as error:
        raise MissingDependencyError(f"this needs ONNX Runtime: {install_extra('onnx')}") from error
    available = onnxruntime.get_available_providers()
    if provider == "auto":
        provider = "cuda" if _PROVIDERS["cuda"] in available else "cpu"
    if _PROVIDERS.get(provider) not in available:
        known = ", ".join(name for name, value in _PROVIDERS.items() if value in available)
        raise ModelError(f"provider {provider!r} cannot be used by ONNX Runtime here, only {known}")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads or usable_cores()
    options.log_severity_level = 4  # errors are raised as exceptions
    session = _reported(path, lambda: onnxruntime.InferenceSession(path, options, providers=[_PROVIDERS[provider]]))
    name = session.get_inputs()[0].name
    return _guarded(path, lambda x: session.run(None, {name: x})[0])


def usable_cores() -> int:
    """Return the number of threads to compute with: ``OMP_NUM_THREADS`` if set, else the cores of this process."""
    wanted = os.environ.get("OMP_NUM_THREADS", "")
    if wanted.isdecimal() and int(wanted) > 0:
        return int(wanted)
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _openvino_opener(device: str, dtype: str, threads: int | None) -> Callable[[Path], Graph]:
    core = import_openvino().Core()
    name = "CPU" if device == "auto" else device.upper()
    if name not in core.available_devices:
        raise ModelError(f"device {device!r} cannot be used by OpenVINO here, only {', '.join(core.available_devices)}")
    settings = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": _HINTS[dtype]}
    if name == "CPU":
        settings["INFERENCE_NUM_THREADS"] = str(threads or usable_cores())

    def open_graph(path: Path) -> Graph:
        compiled = _reported(path, lambda: core.compile_model(path, name, settings))
        return _guarded(path, lambda x: compiled(x)[0])

    return open_graph


def import_openvino() -> Any:
    """Import OpenVINO.

    Raises:
        MissingDependencyError: OpenVINO is not installed.
    """
    try:
        import openvino
    except ImportError as error:
        raise MissingDependencyError(f"this needs OpenVINO: {install_extra('openvino')}") from error
    return openvino


def each(graph: Graph, x: np.ndarray) -> np.ndarray:
    """Run a graph on each sample of a batch, because graphs take one sample."""
    results = [graph(x[i : i + 1]) for i in range(len(x))]
    return results[0] if len(results) == 1 else np.concatenate(results)


def _reported(path: Path, load: Callable[[], Any]) -> Any:
    try:
        return load()
    except Exception as error:  # the runtimes' errors have no common base class
        raise WeightsError(f"{path}: cannot be loaded ({_summary(error)}); export the model again") from error


def _guarded(path: Path, run: Callable[[Any], Any]) -> Graph:
    """Wrap a runtime call: raise its errors as ours, except for a lack of memory."""

    def call(x: np.ndarray) -> np.ndarray:
        try:
            result: np.ndarray = run(np.ascontiguousarray(x, np.float32))
            return result
        except Exception as error:
            if isinstance(error, MemoryError) or mentions_lack_of_memory(str(error)):
                raise MemoryError(_summary(error)) from error
            raise TSDSRError(f"{path.stem} failed on input {tuple(x.shape)}: {_summary(error)}") from error

    return call


def _summary(error: Exception) -> str:
    """Return the last line of a message: the first ones give locations in the runtime's own sources."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__
