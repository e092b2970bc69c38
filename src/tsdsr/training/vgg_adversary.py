"""Optional adversarial loss on VGG16 features of decoded images, as in projected GANs."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from diffusers.models.modeling_utils import ModelMixin
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from tsdsr.models.conditioning import Conditioning
from tsdsr.models.latents import decode_latents
from tsdsr.training.adversarial import Adversary, seeded
from tsdsr.training.sample_rng import SampleRNG

EDGE, SHIFT = 96, 8
"""VGG sees a square of at most ``EDGE`` pixels at any place of the crop, for speed. Its poolings are aligned with no
grid, because the square leaves at least ``SHIFT`` pixels free along each axis."""

_STREAM = 22

Extractor = Callable[[Tensor], Sequence[Tensor]]
"""Images (B, 3, H, W) in [0, 1] → feature maps, each half as large as the one before."""


class VGGAdversary(Adversary):
    """Classify VGG16 features of decoded images (Sauer et al. 2021, "Projected GANs Converge Faster").

    A discriminator that starts from scratch needs many steps before its gradient is of use. Here the features are
    trained already, and only small heads learn. Needs no teacher.

    Args:
        vae (ModelMixin): frozen autoencoder; decodes latents.
        extractor (callable): frozen feature network, see :data:`Extractor`.
        widths (sequence of int): channels of its feature maps, finest first.
        seed (int): seed for the heads' initial weights and for the place of the square.
    """

    def __init__(self, vae: ModelMixin, extractor: Extractor, widths: Sequence[int], seed: int) -> None:
        self.vae, self.extractor, self.seed = vae, extractor, seed
        with seeded(seed):
            super().__init__(VGGDiscriminator(widths))

    def features(self, z: Tensor, items: Sequence[int], prompt: Conditioning) -> tuple[Tensor, ...]:
        """Decode scaled latents (B, C, h, w), and compute the feature maps of a square of every image.

        Its place is drawn per sample.
        """
        x = decode_latents(self.vae, z)
        height, width = (min(EDGE, side - SHIFT) for side in x.shape[-2:])
        places = SampleRNG(self.seed, _STREAM, items)
        tops, lefts = (
            places.integers(0, side - edge).long().tolist()
            for side, edge in zip(x.shape[-2:], (height, width), strict=True)
        )
        squares = [
            image[:, top : top + height, left : left + width] for image, top, left in zip(x, tops, lefts, strict=True)
        ]
        return tuple(self.extractor(torch.stack(squares)))


class VGGDiscriminator(nn.Module):
    """A small convolutional head per feature map; all end at the resolution of the coarsest.

    Args:
        widths (sequence of int): channels of the feature maps, finest first.
        hidden (int): width of the heads.
    """

    def __init__(self, widths: Sequence[int], hidden: int = 64) -> None:
        super().__init__()
        self.heads = nn.ModuleList(_head(width, hidden, len(widths) - 1 - i) for i, width in enumerate(widths))

    def forward(self, features: Sequence[Tensor]) -> Tensor:
        """Map feature maps (B, C_i, h_i, w_i) to logits of "real", (B, maps * positions)."""
        logits = [head(x).flatten(1).float() for head, x in zip(self.heads, features, strict=True)]
        return torch.cat(logits, dim=1)


def _head(channels: int, hidden: int, halvings: int) -> nn.Sequential:
    """Mix channels, halve the resolution ``halvings`` times, classify every position."""
    layers: list[nn.Module] = [spectral_norm(nn.Conv2d(channels, hidden, 1)), nn.LeakyReLU(0.2)]
    for _ in range(halvings):
        layers += [spectral_norm(nn.Conv2d(hidden, hidden, 4, stride=2, padding=1)), nn.LeakyReLU(0.2)]
    layers += [spectral_norm(nn.Conv2d(hidden, hidden, 3, padding=1)), nn.LeakyReLU(0.2)]
    layers += [nn.Conv2d(hidden, 1, 1)]
    return nn.Sequential(*layers)
