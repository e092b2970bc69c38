"""Mixed precision: autocast for a network's blocks, float32 for its input and output layers."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from tsdsr.training.network_layouts import layout_of


def autocast(device: torch.device, dtype: torch.dtype) -> Any:
    """Return an autocast context in ``dtype``; a no-op for float32."""
    return nullcontext() if dtype == torch.float32 else torch.autocast(device.type, dtype)


def keep_outer_layers_in_float32(network: nn.Module, unless: Callable[[], bool] = lambda: False) -> None:
    """Make the first and last layers of a network compute in float32, also under autocast.

    VSD is the difference of two nearly equal predictions. Rounding the input latents and the output predictions to
    bfloat16 causes an error larger than this difference; the blocks between add far less. 16-bit weights of these
    layers are converted to float32.

    Args:
        network (nn.Module): a teacher or a fake network; modified in place. Unknown classes are left unchanged.
        unless (callable): asked at every call; whether the network is another role now, and follows autocast.
    """
    modules = dict(network.named_modules())
    for name in _outer_layers(network):
        if isinstance(layer := modules.get(name), nn.Module):
            layer.float()
            layer.forward = _in_float32(layer.forward, unless)


def store_in_autocast_dtype(network: nn.Module, dtype: torch.dtype) -> None:
    """Store the weights of a frozen network's blocks in the precision in which autocast uses them.

    Autocast converts float32 weights again at every pass: it keeps its copies only of weights that require gradients.
    Results stay the same to the bit. Layers that compute in float32 keep their weights: normalisations, and the outer
    layers of :func:`keep_outer_layers_in_float32`.

    Args:
        network (nn.Module): a network that is neither trained nor stored; modified in place.
        dtype (torch.dtype): autocast precision; float32 changes nothing.
    """
    outer = tuple(f"{name}." for name in _outer_layers(network))
    for name, layer in network.named_modules():
        if isinstance(layer, nn.Linear | nn.Conv2d | nn.ConvTranspose2d) and not f"{name}.".startswith(outer):
            layer.to(dtype)


def _outer_layers(network: nn.Module) -> tuple[str, ...]:
    layout = layout_of(network)
    return layout.outer if layout else ()


def _in_float32(forward: Callable[..., Any], unless: Callable[[], bool]) -> Callable[..., Any]:
    def call(*inputs: Any) -> Any:
        device = next((x.device.type for x in inputs if isinstance(x, Tensor)), "cpu")
        if not torch.is_autocast_enabled(device) or unless():
            return forward(*inputs)
        with torch.autocast(device, enabled=False):
            return forward(*(x.float() if isinstance(x, Tensor) and x.is_floating_point() else x for x in inputs))

    return call
