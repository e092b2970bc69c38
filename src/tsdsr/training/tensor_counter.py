"""Counts what tensor operations cost: bytes that are in use at the same time, and floating point operations."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry

_aten = torch.ops.aten
_SAME_FLOPS: Mapping[Any, Any] = {
    _aten._scaled_dot_product_flash_attention_for_cpu: _aten._scaled_dot_product_flash_attention,
    _aten._scaled_dot_product_flash_attention_for_cpu_backward: _aten._scaled_dot_product_flash_attention_backward,
}
"""Attention on a CPU, which torch's table of operations lacks → the same on a GPU."""


class TensorCounter(TorchDispatchMode):
    """Counts operations within a ``with`` block, on tensors with or without values.

    Only matrix products, convolutions and attention count as floating point operations, two for a multiplication with
    its addition.

    Args:
        held (iterable of Tensor): tensors that exist anyway, such as weights; they are not counted.

    Attributes:
        live (int): bytes of tensors in use now.
        peak (int): largest value of ``live`` so far; may be set.
        flops (int): floating point operations so far.
    """

    def __init__(self, held: Iterable[Tensor] = ()) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.live, self.peak, self.flops = 0, 0, 0
        self._held = {id(storage): storage for storage in (tensor.untyped_storage() for tensor in held)}
        self._known: dict[int, weakref.ref[torch.UntypedStorage]] = {}

    def __torch_dispatch__(
        self, func: Any, types: Sequence[type], args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        packet = func._overloadpacket
        count: Callable[..., int] | None = flop_registry.get(_SAME_FLOPS.get(packet, packet))
        if count is not None:
            self.flops += count(*args, **(kwargs or {}), out_val=result)
        for tensor in tree_leaves(result):
            if isinstance(tensor, Tensor):
                self._add(tensor.untyped_storage())
        return result

    def _add(self, storage: torch.UntypedStorage) -> None:
        key, size = id(storage), storage.nbytes()
        if key in self._known or key in self._held:
            return

        def remove(_: object) -> None:
            del self._known[key]
            self.live -= size

        self._known[key] = weakref.ref(storage, remove)
        self.live += size
        self.peak = max(self.peak, self.live)


def give_fake_tensors(*modules: nn.Module) -> list[Tensor]:
    """Replace parameters and buffers by new ones of the same shapes and dtypes; shared ones stay shared.

    Called under ``FakeTensorMode``, the new tensors have no storage but claim to be on the CPU, where autocast and
    fused attention work as on a GPU. The meta device has neither.

    Args:
        modules (nn.Module): modified in place; usually on the meta device.

    Returns:
        list of Tensor: the new tensors.
    """
    new: dict[int, tuple[Tensor, Tensor]] = {}
    parts = [part for module in modules for part in module.modules()]
    groups: list[dict[str, Any]] = [group for part in parts for group in (part._parameters, part._buffers)]
    for group in groups:
        for name, old in group.items():
            if old is None:
                continue
            if id(old) not in new:
                tensor = torch.empty(old.shape, dtype=old.dtype, device="cpu")
                is_parameter = isinstance(old, nn.Parameter)
                new[id(old)] = nn.Parameter(tensor, old.requires_grad) if is_parameter else tensor, old
            group[name] = new[id(old)][0]
    return [tensor for tensor, _ in new.values()]
