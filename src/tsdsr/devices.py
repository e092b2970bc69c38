"""Devices: choice of device and precision, free memory, copies to and from a device."""

from __future__ import annotations

from threading import Lock
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from tsdsr.arrays import Array, ArrayDevice
from tsdsr.errors import ModelError
from tsdsr.memory import free_ram


def choose_device(device: str | torch.device = "auto") -> torch.device:
    """Return the named device, or the best available one.

    Raises:
        ModelError: the device does not exist or is not available.
    """
    if device == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    known = available_devices()
    try:
        chosen = torch.device(device)
    except (RuntimeError, TypeError):
        raise ModelError(f"unknown device {str(device)!r}; available: auto, {', '.join(known)}") from None
    if chosen.type not in known and str(chosen) not in known:
        raise ModelError(f"device {str(device)!r} is not available; available: auto, {', '.join(known)}")
    if chosen.type == "cuda" and (chosen.index or 0) >= torch.cuda.device_count():
        raise ModelError(f"there is no device {str(device)!r}; available: auto, {', '.join(known)}")
    return chosen


def available_devices() -> list[str]:
    """List the names of the devices of this machine: "cpu", "cuda", "cuda:0" …, "mps", "xpu"."""
    known = ["cpu"]
    if torch.cuda.is_available():
        known += ["cuda", *(f"cuda:{i}" for i in range(torch.cuda.device_count()))]
    if torch.backends.mps.is_available():
        known.append("mps")
    if torch.xpu.is_available():
        known.append("xpu")
    return known


def choose_dtype(dtype: str | torch.dtype, device: torch.device) -> torch.dtype:
    """Return the named precision. "auto" is bfloat16 if the hardware supports it, float16 on older GPUs, else float32.

    Raises:
        ModelError: unknown name.
    """
    if isinstance(dtype, torch.dtype) and dtype.is_floating_point:
        return dtype
    names = {
        "fp32": torch.float32, "float32": torch.float32, "fp16": torch.float16, "float16": torch.float16,
        "bf16": torch.bfloat16, "bfloat16": torch.bfloat16,
    }  # fmt: skip
    if dtype in names:
        return names[dtype]
    if dtype != "auto":
        raise ModelError(f"unknown dtype {dtype!r}; choose from auto, fp32, fp16, bf16")
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float16
    if device.type == "mps":
        return torch.float16
    return torch.bfloat16 if _cpu_has_bf16() else torch.float32


def _cpu_has_bf16() -> bool:
    """Whether the processor multiplies in bfloat16; otherwise it is emulated and slower than float32."""
    probes = (getattr(torch.cpu, name, None) for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported"))
    return any(bool(probe()) for probe in probes if probe is not None)


def to_device(x: Tensor, device: torch.device) -> Tensor:
    """Move ``x`` to a device. Copies from the host to a GPU use pinned memory and do not wait for the GPU."""
    if device.type == "cuda" and x.device.type == "cpu":
        return x.contiguous().pin_memory().to(device, non_blocking=True)
    return x.to(device)


class TorchDevice:
    """Computation by torch on one device.

    Args:
        device (torch.device): the device.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self._pending: tuple[Tensor, Tensor, torch.cuda.Event] | None = None
        self._lock = Lock()  # threads that share a pipeline share its pending copy

    @property
    def xp(self) -> Any:
        """Array API namespace of torch."""
        import array_api_compat.torch as wrapped

        return wrapped

    @property
    def queues(self) -> bool:
        """Whether work is queued, so that reading a computed value waits for the device."""
        return self.device.type != "cpu"

    def upload(self, x: Array) -> Tensor:
        """Return ``x`` on this device, shared if possible. Copies to a GPU do not wait for it."""
        if isinstance(x, np.ndarray):
            shared = x.flags.writeable and all(stride >= 0 for stride in x.strides)
            x = torch.from_numpy(x if shared else x.copy())
        return to_device(x, self.device)

    def store(self, values: Tensor, place: Array) -> None:
        """Copy values into ``place``, a view of the result of the same shape and dtype.

        From a GPU to the host, they go to pinned memory in the background, and on into the result after the next copy
        has started, or by :meth:`flush`.
        """
        place = torch.from_numpy(place) if isinstance(place, np.ndarray) else place
        if values.device.type != "cuda" or place.device.type != "cpu":
            place.copy_(values)
            return
        staged = torch.empty(values.shape, dtype=values.dtype, pin_memory=True)
        staged.copy_(values, non_blocking=True)
        event: torch.cuda.Event = torch.cuda.Event()  # type: ignore[no-untyped-call]
        event.record(torch.cuda.current_stream(values.device))
        with self._lock:
            self._finish()
            self._pending = (place, staged, event)

    def flush(self) -> None:
        """Finish the pending copy of :meth:`store`."""
        with self._lock:
            self._finish()

    def _finish(self) -> None:
        if self._pending is not None:
            place, staged, event = self._pending
            self._pending = None
            event.synchronize()
            place.copy_(staged)

    def free_memory(self) -> int:
        """Return the free bytes: VRAM, or RAM within the limits of this process and its control groups."""
        if self.device.type == "cuda":
            free: int = torch.cuda.mem_get_info(self.device)[0]
            return free + torch.cuda.memory_reserved(self.device) - torch.cuda.memory_allocated(self.device)
        if self.device.type == "mps":
            return min(free_ram(), torch.mps.recommended_max_memory() - torch.mps.driver_allocated_memory())
        return free_ram()

    def wait(self) -> None:
        """Wait until all work queued on this device is done."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        elif self.device.type == "mps":
            torch.mps.synchronize()

    def release(self) -> None:
        """Drop the pending copy, and give cached memory back to a GPU."""
        with self._lock:
            self._pending = None
        if self.device.type == "cuda":
            torch.cuda.empty_cache()

    def reset_peak(self) -> None:
        """Begin a new measurement of :meth:`peak_memory`."""
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self.device)

    def peak_memory(self) -> int | None:
        """Return the most bytes allocated so far on a CUDA device; None on others, whose figure is unknown."""
        return int(torch.cuda.max_memory_allocated(self.device)) if self.device.type == "cuda" else None


if TYPE_CHECKING:
    _: ArrayDevice = TorchDevice(torch.device("cpu"))
