"""Arrays of numpy and torch alike: one implementation of each computation, by the Python array API.

torch is imported only where a tensor is met.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

import numpy as np

from tsdsr.memory import free_ram

Array: TypeAlias = Any
"""A ``numpy.ndarray`` or a ``torch.Tensor``."""


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


class ArrayDevice(Protocol):
    """Where a pipeline computes: memory, copies to it and from it."""

    @property
    def xp(self) -> Any:
        """Array API namespace of this device's arrays."""

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


class HostDevice:
    """Computation by numpy."""

    @property
    def xp(self) -> Any:
        """Array API namespace of numpy."""
        return _numpy_namespace()

    def upload(self, x: Array) -> Array:
        """Return an array with the values and the dtype of ``x``, shared if possible; bfloat16 becomes float32."""
        if isinstance(x, np.ndarray):
            return x
        x = x.detach().cpu()
        return (x.float() if str(x.dtype) == "torch.bfloat16" else x).numpy()

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


if TYPE_CHECKING:
    _: ArrayDevice = HostDevice()
