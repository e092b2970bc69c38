"""`mini`: a small U-Net denoiser for CPUs with the interface of the large ones, (z_t, t, prompt) → native prediction.

It differs from the usual diffusion U-Net in three ways:

* It has no normalisation and no attention, hence no statistics over the image. Every output depends on a bounded
  neighbourhood, and a tile with enough overlap gives exactly the result of the whole image. Scaled initial weights
  keep the activations in range.
* Time and prompt act only through a scale and a shift at the start of each block, like adaLN in MMDiT. At the
  student's fixed time and prompt these are constants.
* Skip connections add instead of concatenating, so the wide convolutions at full resolution stay cheap.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

PROMPTS = ("clean photograph", "null")
"""Meaning of the learned prompts of `mini`, by index."""


class Modulation(nn.Module):
    """Scale and shift each channel as a function of the embedding; initialised to the identity.

    Args:
        channels (int): number of channels C of the feature map.
        embed_dim (int): width E of the time and prompt embedding.
    """

    def __init__(self, channels: int, embed_dim: int) -> None:
        super().__init__()
        self.linear = nn.Linear(embed_dim, 2 * channels)
        zero_init(self.linear)

    def forward(self, x: Tensor, emb: Tensor) -> Tensor:
        """Map x (B, C, h, w) and emb (B, E) to ``x (1 + scale) + shift``, shape (B, C, h, w)."""
        scale, shift = self.linear(emb)[:, :, None, None].chunk(2, dim=1)
        modulated: Tensor = torch.addcmul(shift, x, 1 + scale)
        return modulated


class ResBlock(nn.Module):
    """Residual block: modulation, activation, 3×3 convolution, activation, 3×3 convolution, added to the input.

    Args:
        channels (int): number of input and output channels.
        embed_dim (int): width of the time and prompt embedding.
    """

    def __init__(self, channels: int, embed_dim: int) -> None:
        super().__init__()
        self.modulation = Modulation(channels, embed_dim)
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)
        normal_init(self.conv1, (2 / (9 * channels)) ** 0.5)  # He et al. 2015
        normal_init(self.conv2, 0.3 / (9 * channels) ** 0.5)  # each block adds a tenth of the variance

    def forward(self, x: Tensor, emb: Tensor) -> Tensor:
        """x (B, C, h, w), emb (B, E) → (B, C, h, w)."""
        h: Tensor = self.conv2(F.silu(self.conv1(F.silu(self.modulation(x, emb)))))
        return x + h


class Stage(nn.ModuleList):
    """A sequence of residual blocks of one width.

    Args:
        channels (int): number of input and output channels.
        embed_dim (int): width of the time and prompt embedding.
        blocks (int): number of blocks.
    """

    def __init__(self, channels: int, embed_dim: int, blocks: int) -> None:
        super().__init__(ResBlock(channels, embed_dim) for _ in range(blocks))

    def forward(self, x: Tensor, emb: Tensor) -> Tensor:
        """x (B, C, h, w), emb (B, E) → (B, C, h, w)."""
        for block in self:
            x = block(x, emb)
        return x


class FineLevel(nn.Module):
    """Residual blocks at twice the latent's resolution; their output is added to the network's output.

    Args:
        in_channels (int): number of latent channels, for input and output.
        channels (int): width of the input features.
        width (int): width of this level.
        embed_dim (int): width of the time and prompt embedding.
        blocks (int): number of residual blocks.
    """

    def __init__(self, in_channels: int, channels: int, width: int, embed_dim: int, blocks: int) -> None:
        super().__init__()
        self.up = nn.ConvTranspose2d(channels, width, 2, stride=2)
        self.up_sample = nn.ConvTranspose2d(in_channels, width, 2, stride=2)
        self.stage = Stage(width, embed_dim, blocks)
        self.modulation_out = Modulation(width, embed_dim)
        self.conv_out = nn.Conv2d(width, in_channels, 4, stride=2, padding=1)
        zero_init(self.conv_out)

    def forward(self, x: Tensor, sample: Tensor, emb: Tensor) -> Tensor:
        """Map x (B, C, h, w), sample (B, in_channels, h, w) and emb (B, E) to (B, in_channels, h, w)."""
        fine = self.stage(self.up(x) + self.up_sample(sample), emb)
        added: Tensor = self.conv_out(F.silu(self.modulation_out(fine, emb)))
        return added


class SinusoidalTime(nn.Module):
    """Features of a time: cosines, then sines, of frequencies from 1 to 1 / 10,000 (as in DDPM).

    Args:
        channels (int): number of features, even.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.channels = channels

    def forward(self, t: Tensor) -> Tensor:
        """Map times (B,) to features (B, channels), float32."""
        half = self.channels // 2
        frequency = torch.exp(-math.log(10_000) * torch.arange(half, dtype=torch.float32, device=t.device) / half)
        angle = t.float()[:, None] * frequency
        return torch.cat([angle.cos(), angle.sin()], dim=-1)


class TimeEmbedding(nn.Module):
    """Two linear layers with SiLU between them.

    Args:
        channels (int): number of input features.
        embed_dim (int): width of the embedding.
    """

    def __init__(self, channels: int, embed_dim: int) -> None:
        super().__init__()
        self.linear_1 = nn.Linear(channels, embed_dim)
        self.linear_2 = nn.Linear(embed_dim, embed_dim)

    def forward(self, x: Tensor) -> Tensor:
        """Map features (B, channels) to the embedding (B, embed_dim)."""
        embedding: Tensor = self.linear_2(F.silu(self.linear_1(x)))
        return embedding


class MiniNetwork(nn.Module):
    """The denoiser network of `mini`.

    The output layer is initialised to zero. An untrained network predicts zero velocity, so an untrained student
    returns its input, the bicubic enlargement.

    Args:
        in_channels (int): number of latent channels (48 for 4×4 pixel blocks of RGB), for input and output.
        channels (sequence of int): width of each level, finest first.
        encoder_blocks (sequence of int): residual blocks per encoder level, finest first, including the coarsest.
        decoder_blocks (sequence of int): residual blocks per decoder level, finest first, without the coarsest.
        embed_dim (int): width of the time and prompt embedding.
        num_prompts (int): number of learned prompts, see :data:`PROMPTS`.
        fine_channels (int): width of an extra level at twice the latent's resolution, which adds to the output; 0 for
            none. Without it the last convolution produces all pixels of a latent position at once, and generated
            detail is aligned with that grid.
        fine_blocks (int): residual blocks of the extra level.
        learned_skip (bool): add the input, scaled by a learned function of time, to the output. Useful for a teacher:
            a velocity contains the noise, which without the skip must pass through the network. A student's input has
            no added noise, so it needs no skip.
    """

    def __init__(
        self,
        in_channels: int = 48,
        channels: Sequence[int] = (64, 128, 192),
        encoder_blocks: Sequence[int] = (3, 2, 4),
        decoder_blocks: Sequence[int] = (4, 2),
        embed_dim: int = 128,
        num_prompts: int = len(PROMPTS),
        learned_skip: bool = False,
        fine_channels: int = 0,
        fine_blocks: int = 2,
    ) -> None:
        super().__init__()
        self.time_proj = SinusoidalTime(64)
        self.time_embedding = TimeEmbedding(64, embed_dim)
        self.prompt_embedding = nn.Embedding(num_prompts, embed_dim, _weight=torch.empty(num_prompts, embed_dim))
        normal_init(self.prompt_embedding, 1.0)
        self.conv_in = nn.Conv2d(in_channels, channels[0], 3, padding=1)
        self.encoder = nn.ModuleList(
            Stage(width, embed_dim, blocks) for width, blocks in zip(channels, encoder_blocks, strict=True)
        )
        pairs = list(pairwise(channels))
        self.down = nn.ModuleList(nn.Conv2d(fine, coarse, 2, stride=2) for fine, coarse in pairs)
        self.up = nn.ModuleList(nn.ConvTranspose2d(coarse, fine, 2, stride=2) for fine, coarse in pairs)
        self.decoder = nn.ModuleList(
            Stage(width, embed_dim, blocks) for width, blocks in zip(channels[:-1], decoder_blocks, strict=True)
        )
        self.modulation_out = Modulation(channels[0], embed_dim)
        self.conv_out = nn.Conv2d(channels[0], in_channels, 3, padding=1)
        zero_init(self.conv_out)
        self.fine = (
            FineLevel(in_channels, channels[0], fine_channels, embed_dim, fine_blocks) if fine_channels else None
        )
        self.skip = nn.Linear(embed_dim, in_channels) if learned_skip else None
        if self.skip is not None:
            zero_init(self.skip)

    def forward(self, sample: Tensor, timestep: Tensor, labels: Tensor) -> Tensor:
        """Predict the velocity for a noisy or low-quality latent.

        Args:
            sample (Tensor): latent, shape (B, in_channels, h, w), h and w multiples of 2^(levels - 1).
            timestep (Tensor): time in [0, 1000], shape (B,).
            labels (Tensor): prompt indices, int64, shape (B,).

        Returns:
            Tensor: velocity, the native prediction, shape of ``sample``.
        """
        emb = self.time_embedding(self.time_proj(timestep).to(sample.dtype)) + self.prompt_embedding(labels)
        return self.predict(sample, F.silu(emb))

    def predict(self, sample: Tensor, emb: Tensor) -> Tensor:
        """Run :meth:`forward` with a precomputed embedding of time and prompt, shape (B, embed_dim)."""
        x = self.conv_in(sample.contiguous(memory_format=torch.channels_last))
        skips: list[Tensor] = []
        for level, stage in enumerate(self.encoder):
            x = stage(x, emb)
            if level < len(self.down):
                skips.append(x)
                x = self.down[level](x)
        for level in reversed(range(len(self.up))):
            x = self.decoder[level](self.up[level](x) + skips.pop(), emb)
        velocity: Tensor = self.conv_out(F.silu(self.modulation_out(x, emb)))
        if self.fine is not None:
            velocity = velocity + self.fine(x, sample, emb)
        if self.skip is not None:
            velocity = torch.addcmul(velocity, sample, self.skip(emb)[:, :, None, None])
        return velocity


def normal_init(layer: nn.Conv2d | nn.Embedding, std: float) -> None:
    """Draw the weight from a normal distribution. On the meta device, torch would import its compiler for that."""
    if not layer.weight.is_meta:
        nn.init.normal_(layer.weight, std=std)


def zero_init(layer: nn.Linear | nn.Conv2d) -> None:
    """Set weight and bias to zero, so that a branch ending in this layer initially adds nothing."""
    nn.init.zeros_(layer.weight)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
