"""Group normalisation whose statistics are those of a whole image while it is processed in tiles.

A GroupNorm takes mean and variance over the tile it sees, so that neighbouring tiles are scaled differently: flat areas
jump in brightness from tile to tile. Here the statistics are measured once and then held, which makes the layer the
same affine map for every tile.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class SharedGroupNorms:
    """All GroupNorm layers below some networks.

    ::

        norms = SharedGroupNorms(vae, denoiser)
        with norms.measured():
            network(samples)          # all samples of the batch share their statistics, which are kept
        with norms.held():
            network(tile)             # every tile with those statistics

    The layers are changed inside the blocks only, and not for one thread alone.

    Args:
        networks: where to look; what is no torch module, such as an exported network, has none to change.
    """

    def __init__(self, *networks: object) -> None:
        modules = [m for network in networks if isinstance(network, nn.Module) for m in network.modules()]
        self.layers = [m for m in modules if isinstance(m, nn.GroupNorm)]
        self.statistics: dict[nn.GroupNorm, tuple[Tensor, Tensor]] = {}

    def __bool__(self) -> bool:
        return bool(self.layers)

    @contextmanager
    def measured(self) -> Iterator[None]:
        """Inside, each layer normalises a batch as one image and keeps the mean and variance of its last call."""
        with self._forwards(self._measure):
            yield

    @contextmanager
    def held(self) -> Iterator[None]:
        """Inside, layers that were measured use what was measured."""
        with self._forwards(self._apply):
            yield

    def _measure(self, layer: nn.GroupNorm, x: Tensor) -> Tensor:
        grouped = x.float().reshape(len(x), layer.num_groups, -1)
        var, mean = torch.var_mean(grouped, dim=(0, 2), correction=0)
        width = layer.num_channels // layer.num_groups
        self.statistics[layer] = (mean.repeat_interleave(width), var.repeat_interleave(width))
        return self._apply(layer, x)

    def _apply(self, layer: nn.GroupNorm, x: Tensor) -> Tensor:
        """GroupNorm with given statistics is BatchNorm at inference, each channel having those of its group."""
        if layer not in self.statistics:
            return F.group_norm(x, layer.num_groups, layer.weight, layer.bias, layer.eps)
        mean, var = self.statistics[layer]
        weight, bias = (None if p is None else p.float() for p in (layer.weight, layer.bias))
        return F.batch_norm(x, mean, var, weight, bias, training=False, eps=layer.eps)

    @contextmanager
    def _forwards(self, function: Callable[[nn.GroupNorm, Tensor], Tensor]) -> Iterator[None]:
        def bind(layer: nn.GroupNorm) -> Callable[[Tensor], Tensor]:
            return lambda x: function(layer, x)

        for layer in self.layers:
            layer.__dict__["forward"] = bind(layer)
        try:
            yield
        finally:
            for layer in self.layers:
                del layer.__dict__["forward"]
