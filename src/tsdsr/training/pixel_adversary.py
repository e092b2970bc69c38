"""Optional adversarial loss on decoded images: a U-Net discriminator with a logit for every pixel."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from diffusers.models.modeling_utils import ModelMixin
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from tsdsr.models.conditioning import Conditioning
from tsdsr.models.latents import decode_latents
from tsdsr.training.adversarial import Adversary, seeded


class PixelAdversary(Adversary):
    """Classify decoded images, in which patterns of single pixels are plain to see. Needs no teacher.

    Args:
        vae (ModelMixin): frozen autoencoder; decodes latents.
        seed (int): seed for the head's initial weights.
        width (int): see :class:`PixelDiscriminator`.
    """

    def __init__(self, vae: ModelMixin, seed: int, width: int = 32) -> None:
        self.vae = vae
        with seeded(seed):
            super().__init__(PixelDiscriminator(width))

    def features(self, z: Tensor, items: Sequence[int], prompt: Conditioning) -> Tensor:
        """Decode scaled latents (B, C, h, w) to images (B, 3, H, W), nominally in [0, 1]."""
        return decode_latents(self.vae, z)


class PixelDiscriminator(nn.Module):
    """U-Net discriminator with spectral normalisation (Miyato et al. 2018), as in Real-ESRGAN (Wang et al. 2021).

    Each level halves the resolution and doubles the width; on the way back, features of equal resolution are added.

    Args:
        width (int): channels at full resolution; the published network has 64.
        levels (int): how often the resolution is halved.
    """

    def __init__(self, width: int = 32, levels: int = 3) -> None:
        super().__init__()
        widths = [width * 2**level for level in range(levels + 1)]
        self.first = nn.Conv2d(3, width, 3, padding=1)
        self.down = nn.ModuleList(_normalised(fine, coarse, 4, stride=2) for fine, coarse in pairwise(widths))
        self.up = nn.ModuleList(_normalised(coarse, fine, 3) for fine, coarse in pairwise(widths))
        self.last = nn.ModuleList(_normalised(width, width, 3) for _ in range(2))
        self.out = nn.Conv2d(width, 1, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """Map images (B, 3, H, W) in [0, 1], sides multiples of ``2**levels``, to logits of "real", (B, H * W)."""
        x = _activated(self.first((2 * x - 1).contiguous(memory_format=torch.channels_last)))
        skips: list[Tensor] = []
        for layer in self.down:
            skips.append(x)
            x = _activated(layer(x))
        for layer in reversed(self.up):
            x = F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)
            x = _activated(layer(x)) + skips.pop()
        for layer in self.last:
            x = _activated(layer(x))
        logits: Tensor = self.out(x).flatten(1).float()
        return logits


def _normalised(before: int, after: int, edge: int, stride: int = 1) -> nn.Module:
    """A convolution without bias and with spectral norm 1; it divides the size by ``stride``."""
    return spectral_norm(nn.Conv2d(before, after, edge, stride, padding=1, bias=False))


def _activated(x: Tensor) -> Tensor:
    return F.leaky_relu(x, 0.2)
