"""Group normalisation with statistics shared by all tiles of an image.

A GroupNorm computes mean and variance over its input, one tile. Neighbouring tiles are therefore scaled differently,
and flat areas change brightness from tile to tile. Here the statistics are measured once and then kept fixed, so the
layer is the same affine map for every tile.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class SharedGroupNorms:
    """Switches all GroupNorm layers of some networks between measuring statistics and reusing them.

    ::

        norms = SharedGroupNorms(vae, denoiser)
        with norms.measured():
            network(samples)          # statistics are computed over the whole batch and stored
        with norms.held():
            network(tile)             # every tile uses the stored statistics

    The layers are changed only inside the blocks, but for all threads. Networks whose ``forward`` was replaced by one
    with an attribute ``eager`` (:mod:`tsdsr.optimize.cuda_graphs`) run that one there: captured kernels would go on
    with what they were captured with, and compiled code would be compiled again for every image.

    Args:
        networks: networks to search; objects that are not torch modules, such as exported networks, are ignored.
    """

    def __init__(self, *networks: object) -> None:
        modules = [m for network in networks if isinstance(network, nn.Module) for m in network.modules()]
        self.layers = [m for m in modules if isinstance(m, nn.GroupNorm)]
        self._replaced = [m for m in modules if _eager(m) and any(isinstance(p, nn.GroupNorm) for p in m.modules())]
        self.statistics: dict[nn.GroupNorm, tuple[Tensor, Tensor]] = {}

    def __bool__(self) -> bool:
        return bool(self.layers)

    @contextmanager
    def measured(self) -> Iterator[None]:
        """Within the context, each layer normalises over the whole batch and stores its last mean and variance."""
        with self._forwards(self._measure):
            yield

    @contextmanager
    def held(self) -> Iterator[None]:
        """Within the context, each measured layer uses its stored mean and variance."""
        with self._forwards(self._apply):
            yield

    def _measure(self, layer: nn.GroupNorm, x: Tensor) -> Tensor:
        grouped = x.float().reshape(len(x), layer.num_groups, -1)
        var, mean = torch.var_mean(grouped, dim=(0, 2), correction=0)
        width = layer.num_channels // layer.num_groups
        self.statistics[layer] = (mean.repeat_interleave(width), var.repeat_interleave(width))
        return self._apply(layer, x)

    def _apply(self, layer: nn.GroupNorm, x: Tensor) -> Tensor:
        """Apply stored statistics with batch norm in inference mode, each channel using those of its group."""
        if layer not in self.statistics:
            return F.group_norm(x, layer.num_groups, layer.weight, layer.bias, layer.eps)
        mean, var = self.statistics[layer]
        weight, bias = (None if p is None else p.float() for p in (layer.weight, layer.bias))
        return F.batch_norm(x, mean, var, weight, bias, training=False, eps=layer.eps)

    @contextmanager
    def _forwards(self, function: Callable[[nn.GroupNorm, Tensor], Tensor]) -> Iterator[None]:
        def bind(layer: nn.GroupNorm) -> Callable[[Tensor], Tensor]:
            return lambda x: function(layer, x)

        fast = {module: module.__dict__["forward"] for module in self._replaced}
        for layer in self.layers:
            layer.__dict__["forward"] = bind(layer)
        for module in fast:
            module.__dict__["forward"] = _eager(module)
        try:
            yield
        finally:
            for layer in self.layers:
                del layer.__dict__["forward"]
            for module, forward in fast.items():
                module.__dict__["forward"] = forward


def _eager(module: nn.Module) -> Callable[..., Tensor] | None:
    """Return what a module ran before its ``forward`` was compiled; None if it was not."""
    return getattr(module.__dict__.get("forward"), "eager", None)
