"""An optional adversarial loss in latent space: a light discriminator on the fake network's features."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch.nn.functional as F
from diffusers.models.transformers.transformer_sd3 import SD3Transformer2DModel
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from torch import Tensor, nn

from tsdsr.errors import ModelError
from tsdsr.models.mini import MiniUNet


class Discriminator(nn.Module):
    """A small head on feature maps or tokens: normalise, mix channels, judge every position.

    Args:
        channels (int): width of the features.
        hidden (int): width inside.
    """

    def __init__(self, channels: int, hidden: int = 128) -> None:
        super().__init__()
        self.head = nn.Sequential(
            nn.LayerNorm(channels, elementwise_affine=False),
            nn.Linear(channels, hidden),
            nn.SiLU(),
            nn.Linear(hidden, hidden),
            nn.SiLU(),
            nn.Linear(hidden, 1),
        )

    def forward(self, features: Tensor) -> Tensor:
        """Features (B, C, h, w) or (B, tokens, C) → logits of "real", (B, positions)."""
        tokens = features.flatten(2).transpose(1, 2) if features.ndim == 4 else features
        logits: Tensor = self.head(tokens.float())[..., 0]
        return logits


def feature_layer(network: nn.Module) -> tuple[nn.Module, int]:
    """The module whose output the discriminator looks at, and its width.

    Raises:
        ModelError: unknown kind of network.
    """
    if isinstance(network, SD3Transformer2DModel):
        blocks = network.transformer_blocks
        return blocks[len(blocks) // 2], int(network.inner_dim)
    if isinstance(network, UNet2DConditionModel):
        return network.mid_block, int(network.config["block_out_channels"][-1])
    if isinstance(network, MiniUNet):
        return network.encoder[-1], int(network.config["channels"][-1])
    raise ModelError(f"no discriminator features are known for {type(network).__name__}")


@contextmanager
def captured(layer: nn.Module) -> Iterator[list[Tensor]]:
    """Collect a layer's outputs within the block; of several outputs the last, which is the image stream of MMDiT."""
    outputs: list[Tensor] = []

    def hook(module: nn.Module, inputs: object, output: Tensor | tuple[Tensor, ...]) -> None:
        outputs.append(output if isinstance(output, Tensor) else output[-1])

    handle = layer.register_forward_hook(hook)
    try:
        yield outputs
    finally:
        handle.remove()


def generator_loss(fake_logits: Tensor) -> Tensor:
    """Non-saturating: ``mean softplus(-D(z_hat))``; gradients reach ``z_hat`` through the features."""
    return F.softplus(-fake_logits).mean()


def discriminator_loss(real_logits: Tensor, fake_logits: Tensor) -> Tensor:
    """``mean softplus(-D(z_hq)) + mean softplus(D(z_hat))``."""
    return F.softplus(-real_logits).mean() + F.softplus(fake_logits).mean()


@contextmanager
def frozen(module: nn.Module) -> Iterator[None]:
    """Within the block gradients pass through the module without being collected in it."""
    kept = [p for p in module.parameters() if p.requires_grad]
    for parameter in kept:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in kept:
            parameter.requires_grad_(True)
