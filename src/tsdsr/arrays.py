"""Arrays of numpy and torch alike: one implementation of each computation, by the Python array API.

torch is imported only where a tensor is met.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias, TypeGuard

import numpy as np

from tsdsr.memory import free_ram

if TYPE_CHECKING:
    from torch import Tensor

Array: TypeAlias = Any
"""A ``numpy.ndarray`` or a ``torch.Tensor``."""

_CACHED_ROWS = 64
"""Rows of an image that numpy processes at a time, so that intermediate values stay in the processor's cache."""


def namespace(x: Array) -> Any:
    """Return the array API namespace of an array.

    From version 2.1 on, numpy implements the array API itself. Its wrapper in ``array_api_compat`` adds nothing then,
    and takes 0.1 s to import.
    """
    if isinstance(x, np.ndarray):
        return _numpy_namespace()
    from array_api_compat import array_namespace

    return array_namespace(x)


def _numpy_namespace() -> Any:
    if hasattr(np, "__array_namespace_info__"):
        return np
    import array_api_compat.numpy as wrapped

    return wrapped


def is_torch(x: object) -> TypeGuard[Tensor]:
    """Whether ``x`` is a ``torch.Tensor``."""
    if isinstance(x, np.ndarray):
        return False
    from array_api_compat import is_torch_array

    return bool(is_torch_array(x))


def dtype_name(x: Array) -> str:
    """Return the name of an array's dtype, such as "uint8"."""
    return str(x.dtype).removeprefix("torch.")


def transposed(x: Array) -> Array:
    """Return a view with the last two axes swapped."""
    return namespace(x).matrix_transpose(x)


def contiguous(x: Array) -> Array:
    """Return ``x``, or a copy of it, in the memory order of its axes."""
    return x.contiguous() if is_torch(x) else np.ascontiguousarray(x)


def new_empty(x: Array, shape: Sequence[int]) -> Array:
    """Allocate an array of another shape with the dtype and the device of ``x``."""
    return x.new_empty(tuple(shape)) if is_torch(x) else np.empty(shape, x.dtype)


def new_zeros(x: Array, shape: Sequence[int]) -> Array:
    """Allocate zeros of another shape with the dtype and the device of ``x``."""
    return x.new_zeros(tuple(shape)) if is_torch(x) else np.zeros(shape, x.dtype)


def beside(values: np.ndarray, x: Array) -> Array:
    """Return host values as an array of the kind and the device of ``x``."""
    return namespace(x).asarray(values, device=x.device) if is_torch(x) else values


def part(x: Array, start: int, stop: int, axis: int) -> Array:
    """Return a view of the positions [start, stop) of the last (-1) or last but one (-2) axis."""
    return x[..., start:stop] if axis == -1 else x[..., start:stop, :]


def take(x: Array, index: np.ndarray, axis: int) -> Array:
    """Return a copy of the positions ``index`` of an axis; none may be negative."""
    return x.index_select(axis, beside(index, x)) if is_torch(x) else np.take(x, index, axis)


def add_product(target: Array, x: Array, weight: Array) -> None:
    """Add ``x * weight`` to ``target``, in place; all float32.

    Args:
        target, x (array): (..., h, w).
        weight (array): (h, w).
    """
    if is_torch(target):
        target.addcmul_(x, weight)
        return
    for start in range(0, target.shape[-2], _CACHED_ROWS):
        rows = (..., slice(start, start + _CACHED_ROWS), slice(None))
        target[rows] += x[rows] * weight[rows]


class ArrayDevice(Protocol):
    """Where a pipeline computes: memory, copies to it and from it."""

    @property
    def xp(self) -> Any:
        """Array API namespace of this device's arrays."""

    @property
    def queues(self) -> bool:
        """Whether work is queued, so that reading a computed value waits for the device."""

    def upload(self, x: Array) -> Array:
        """Return an array of this device with the values and the dtype of ``x``, an array of any kind."""

    def store(self, values: Array, place: Array) -> None:
        """Copy values of this device into ``place``, a view of the result of the same shape and dtype.

        Args:
            values (array): computed on this device.
            place (array): of any kind. Complete after the next :meth:`flush`.
        """

    def flush(self) -> None:
        """Finish the copies of :meth:`store`."""

    def free_memory(self) -> int:
        """Return the free bytes."""

    def wait(self) -> None:
        """Wait until all queued work is done."""

    def release(self) -> None:
        """Drop what a failed run left: pending copies and cached memory."""

    def reset_peak(self) -> None:
        """Begin a new measurement of :meth:`peak_memory`."""

    def peak_memory(self) -> int | None:
        """Return the most bytes of the device's own memory in use so far; None if it computes in host memory."""


class HostDevice:
    """Computation by numpy."""

    queues = False

    @property
    def xp(self) -> Any:
        """Array API namespace of numpy."""
        return _numpy_namespace()

    def upload(self, x: Array) -> Array:
        """Return an array with the values and the dtype of ``x``, shared if possible; bfloat16 becomes float32."""
        if isinstance(x, np.ndarray):
            return x
        x = x.detach().cpu()
        return (x.float() if dtype_name(x) == "bfloat16" else x).numpy()

    def store(self, values: Array, place: Array) -> None:
        """Copy values into ``place`` at once."""
        if isinstance(place, np.ndarray):
            np.copyto(place, values)
            return
        import torch

        place.copy_(torch.from_numpy(values.copy()))  # which any strides allow, and read-only values

    def flush(self) -> None:
        """Nothing is pending."""

    def free_memory(self) -> int:
        """Return the bytes of RAM that this process may still use."""
        return free_ram()

    def wait(self) -> None:
        """Nothing is queued."""

    def release(self) -> None:
        """Nothing is cached."""

    def reset_peak(self) -> None:
        """Nothing is counted."""

    def peak_memory(self) -> int | None:
        """Return None: arrays lie in host memory."""
        return None


if TYPE_CHECKING:
    _: ArrayDevice = HostDevice()
