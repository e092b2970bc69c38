"""Copies between host and GPU that run beside the computation; on other devices plain copies."""

from __future__ import annotations

import torch
from torch import Tensor


def to_device(x: Tensor, device: torch.device) -> Tensor:
    """``x`` on a device. From the host to a GPU through pinned memory, without waiting for the GPU."""
    if device.type == "cuda" and x.device.type == "cpu":
        return x.contiguous().pin_memory().to(device, non_blocking=True)
    return x.to(device)


class Landing:
    """Puts computed values into their places in the result.

    From a GPU to the host each copy goes to pinned memory in the background, and arrives in the result once the next
    one is under way.
    """

    def __init__(self) -> None:
        self._pending: tuple[Tensor, Tensor, torch.cuda.Event] | None = None

    def put(self, values: Tensor, place: Tensor) -> None:
        """Copy ``values`` into ``place``, a view of the result of the same shape and dtype; see :meth:`flush`."""
        if values.device.type != "cuda" or place.device.type != "cpu":
            place.copy_(values)
            return
        staged = torch.empty(values.shape, dtype=values.dtype, pin_memory=True)
        staged.copy_(values, non_blocking=True)
        event: torch.cuda.Event = torch.cuda.Event()  # type: ignore[no-untyped-call]
        event.record(torch.cuda.current_stream(values.device))
        self.flush()
        self._pending = (place, staged, event)

    def flush(self) -> None:
        """Wait for the copy under way."""
        if self._pending is not None:
            place, staged, event = self._pending
            self._pending = None
            event.synchronize()
            place.copy_(staged)
