"""Runtimes other than PyTorch: open a graph file as a function of one tensor.

Tensors are float32 on the CPU and share memory with the runtimes' arrays. PyTorch does no computation.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tsdsr.devices import choose_dtype
from tsdsr.errors import InvalidInputError, MissingDependencyError, ModelError, TSDSRError, WeightsError, install_extra
from tsdsr.out_of_memory import mentions_lack_of_memory
from tsdsr.runtimes.export import Backend, import_openvino

Graph = Callable[[Tensor], Tensor]
"""A network in a runtime: (1, C, h, w) → (1, C', h', w'), float32, on the CPU."""

_PROVIDERS = {
    "cpu": "CPUExecutionProvider",
    "cuda": "CUDAExecutionProvider",
    "directml": "DmlExecutionProvider",
    "coreml": "CoreMLExecutionProvider",
}
_HINTS = {torch.float32: "f32", torch.bfloat16: "bf16", torch.float16: "f16"}


def runtime_dtype(backend: Backend, stored: str, dtype: str | torch.dtype, device: str) -> torch.dtype:
    """Return the precision in which a runtime will compute.

    ONNX Runtime computes in the precision of the file, OpenVINO in the requested one.

    Args:
        backend ("onnx" | "openvino"): the runtime.
        stored ("fp32" | "fp16"): precision of the file.
        dtype: "auto", "fp32", "fp16", "bf16" or a torch dtype. With ONNX Runtime, "auto" is the precision of the file.
            With OpenVINO it is that of :func:`tsdsr.devices.choose_dtype` on the CPU, float16 on other devices.
        device (str): device to compute on.

    Raises:
        InvalidInputError: ONNX Runtime cannot compute in that precision.
    """
    if backend == "openvino":
        if dtype == "auto" and device not in ("auto", "cpu"):
            return torch.float16
        return choose_dtype(dtype, torch.device("cpu"))
    own = choose_dtype(stored, torch.device("cpu"))
    if dtype != "auto" and choose_dtype(dtype, torch.device("cpu")) is not own:
        raise InvalidInputError(
            f"this model was exported in {stored}, and ONNX Runtime computes in nothing else: leave out the dtype, or "
            f"export again in another one (fp32, fp16)"
        )
    return own


def opener(backend: Backend, device: str, dtype: torch.dtype, threads: int) -> Callable[[Path], Graph]:
    """Return a function that opens graph files.

    Args:
        backend ("onnx" | "openvino"): the runtime.
        device (str): "auto", "cpu" or, for ONNX Runtime, "cuda", "cuda:1", "directml", "coreml", for OpenVINO "gpu",
            "gpu.1", "npu". "auto" selects CUDA if ONNX Runtime supports it, else the CPU.
        dtype (torch.dtype): compute precision of OpenVINO.
        threads (int): CPU threads.

    Raises:
        MissingDependencyError: the runtime is not installed.
        ModelError: the runtime does not support the device.
    """
    return _onnx_opener(device, threads) if backend == "onnx" else _openvino_opener(device, dtype, threads)


def _onnx_opener(device: str, threads: int) -> Callable[[Path], Graph]:
    try:
        import onnxruntime
    except ImportError as error:
        raise MissingDependencyError(f"this needs ONNX Runtime: {install_extra('onnx')}") from error
    available = onnxruntime.get_available_providers()
    if device == "auto":
        device = "cuda" if _PROVIDERS["cuda"] in available else "cpu"
    kind, _, number = device.partition(":")
    if _PROVIDERS.get(kind) not in available or not (number or "0").isdecimal():
        known = ", ".join(name for name, provider in _PROVIDERS.items() if provider in available)
        raise ModelError(f"device {device!r} cannot be used by ONNX Runtime here, only {known}")
    provider = (_PROVIDERS[kind], {"device_id": number} if number else {})
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 4  # errors are raised as exceptions

    def open_graph(path: Path) -> Graph:
        session = _reported(path, lambda: onnxruntime.InferenceSession(path, options, providers=[provider]))
        name = session.get_inputs()[0].name
        return _guarded(path, lambda x: session.run(None, {name: x})[0])

    return open_graph


def _openvino_opener(device: str, dtype: torch.dtype, threads: int) -> Callable[[Path], Graph]:
    core = import_openvino().Core()
    name = "CPU" if device == "auto" else device.upper()
    if name not in core.available_devices:
        raise ModelError(f"device {device!r} cannot be used by OpenVINO here, only {', '.join(core.available_devices)}")
    settings = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": _HINTS[dtype]}
    if name == "CPU":
        settings["INFERENCE_NUM_THREADS"] = str(threads)

    def open_graph(path: Path) -> Graph:
        compiled = _reported(path, lambda: core.compile_model(path, name, settings))
        return _guarded(path, lambda x: compiled(x)[0])

    return open_graph


def _reported(path: Path, load: Callable[[], Any]) -> Any:
    try:
        return load()
    except Exception as error:  # the runtimes' errors have no common base class
        raise WeightsError(f"{path}: cannot be loaded ({_summary(error)}); export the model again") from error


def _guarded(path: Path, run: Callable[[Any], Any]) -> Graph:
    """Wrap a runtime call: convert tensors, and raise its errors as ours except for a lack of memory."""

    def call(x: Tensor) -> Tensor:
        try:
            return torch.from_numpy(run(x.float().contiguous().numpy()))
        except Exception as error:
            if isinstance(error, MemoryError) or mentions_lack_of_memory(str(error)):
                raise MemoryError(_summary(error)) from error
            raise TSDSRError(f"{path.stem} failed on input {tuple(x.shape)}: {_summary(error)}") from error

    return call


def _summary(error: Exception) -> str:
    """Return the last line of a message: the first ones give locations in the runtime's own sources."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__
