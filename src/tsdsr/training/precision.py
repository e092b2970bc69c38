"""Mixed precision: autocast for a network's blocks, float32 for the layers that read latents and write predictions."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import torch
from diffusers.models.transformers.transformer_sd3 import SD3Transformer2DModel
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from torch import Tensor, nn

from tsdsr.models.mini import MiniUNet

OUTER_LAYERS: dict[type[nn.Module], tuple[str, ...]] = {
    SD3Transformer2DModel: ("pos_embed", "time_text_embed", "context_embedder", "norm_out", "proj_out"),
    UNet2DConditionModel: ("conv_in", "time_embedding", "conv_norm_out", "conv_out"),
    MiniUNet: (
        "conv_in", "time_embedding", "modulation_out", "conv_out", "skip",
        "fine.up_sample", "fine.modulation_out", "fine.conv_out",
    ),
}  # fmt: skip
"""Network class → layers between its blocks and latents, times, prompts or predictions."""


def autocast(device: torch.device, dtype: torch.dtype) -> Any:
    """Mixed precision in ``dtype``; nothing for float32."""
    return nullcontext() if dtype == torch.float32 else torch.autocast(device.type, dtype)


def keep_outer_layers_in_float32(network: nn.Module) -> None:
    """Make the first and last layers of a network compute in float32, also under autocast.

    VSD is the difference of two predictions that are nearly equal. Rounding the latents on their way in and the
    predictions on their way out to bfloat16 leaves an error larger than this difference; the blocks between add far
    less. Weights of these layers that are stored in 16 bits become float32.

    Args:
        network (nn.Module): a teacher or a fake network; changed in place. Unknown classes stay as they are.
    """
    names = next((names for known, names in OUTER_LAYERS.items() if isinstance(network, known)), ())
    modules = dict(network.named_modules())
    for name in names:
        if isinstance(layer := modules.get(name), nn.Module):
            layer.float()
            layer.forward = _in_float32(layer.forward)


def _in_float32(forward: Callable[..., Any]) -> Callable[..., Any]:
    def call(*inputs: Any) -> Any:
        device = next((x.device.type for x in inputs if isinstance(x, Tensor)), "cpu")
        if not torch.is_autocast_enabled(device):
            return forward(*inputs)
        with torch.autocast(device, enabled=False):
            return forward(*(x.float() if isinstance(x, Tensor) and x.is_floating_point() else x for x in inputs))

    return call
