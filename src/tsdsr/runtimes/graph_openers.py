"""Open a graph file in ONNX Runtime or OpenVINO, as a function of one numpy array. Imports no torch."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from tsdsr.errors import InvalidInputError, MissingDependencyError, ModelError, install_extra
from tsdsr.processor import multiplies_bf16
from tsdsr.runtimes.export_index import Backend
from tsdsr.runtimes.graph_calls import Graph, default_threads, guarded, loaded
from tsdsr.runtimes.providers import OnnxSessions

_HINTS = {"fp32": "f32", "bf16": "bf16", "fp16": "f16"}
_SHORT_NAMES = {"float32": "fp32", "float16": "fp16", "bfloat16": "bf16"}


def short_dtype(dtype: object) -> str:
    """Return the short name of a precision: "fp32" for "float32" and ``torch.float32``. Other names stay as given."""
    name = str(dtype).removeprefix("torch.")
    return _SHORT_NAMES.get(name, name)


def require_no_device(device: str) -> None:
    """Check that no device is named for ONNX Runtime, whose hardware is chosen by a provider.

    Raises:
        InvalidInputError: one is.
    """
    if device not in ("auto", "cpu"):
        raise InvalidInputError(f"ONNX Runtime has providers instead of the device {device!r}: choose a provider")


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
    named = short_dtype(dtype)
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
            f"this model was exported in {stored}, the only precision that ONNX Runtime can use for it: leave out the "
            f"dtype, or export again in another one (fp32, fp16)"
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
        provider (str): execution provider of ONNX Runtime, see :func:`~tsdsr.runtimes.providers.choose_provider`.
        threads (int | None): CPU threads; default: one per core.

    Raises:
        MissingDependencyError: the runtime is not installed.
        InvalidInputError: the runtime has no such device.
        ModelError: the runtime does not support the device or the provider here.
    """
    if backend == "openvino":
        return _openvino_opener(device, dtype, threads)
    require_no_device(device)
    return OnnxSessions(provider, threads).open_graph


def _openvino_opener(device: str, dtype: str, threads: int | None) -> Callable[[Path], Graph]:
    core = import_openvino().Core()
    name = "CPU" if device == "auto" else device.upper()
    if name not in core.available_devices:
        raise ModelError(f"device {device!r} cannot be used by OpenVINO here, only {', '.join(core.available_devices)}")
    settings = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": _HINTS[dtype]}
    if name == "CPU":
        settings["INFERENCE_NUM_THREADS"] = str(threads or default_threads())

    def open_graph(path: Path) -> Graph:
        compiled = loaded(path, lambda: core.compile_model(path, name, settings))
        return guarded(path, lambda x: compiled(x)[0])

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
