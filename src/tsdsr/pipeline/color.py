"""Colour alignment of a restored image with its low-quality source."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from tsdsr.errors import InvalidInputError
from tsdsr.measuring import stage

WAVELET_RADIUS = 1 + 2 + 4 + 8 + 16
"""Radius of the wavelet fix in pixels, with its five levels."""


def wavelet_color_fix(x_hat: Tensor, source: Tensor, levels: int = 5) -> Tensor:
    """Keep the detail of ``x_hat`` and take the low frequencies from ``source``.

    The low-frequency part ``L`` is what remains after ``levels`` à-trous blurs with dilations 1, 2, 4, …; the blur
    is linear, so the exchange ``x_hat - L(x_hat) + L(source)`` needs only one decomposition, that of the difference.

    Args:
        x_hat (Tensor): restored image (B, C, H, W).
        source (Tensor): reference for colour, the same shape.
        levels (int): number of blurs; 5 keeps structures below about 64 pixels.

    Returns:
        Tensor: shape of ``x_hat``, not clamped.

    Raises:
        InvalidInputError: the shapes differ.
    """
    if x_hat.shape != source.shape:
        raise InvalidInputError(f"shapes differ: {tuple(x_hat.shape)} and {tuple(source.shape)}")
    with stage("colour"):
        low = source - x_hat
        for level in range(levels):
            low = _atrous_blur(low, dilation=2**level)
        return x_hat + low


def _atrous_blur(x: Tensor, dilation: int) -> Tensor:
    """Filter with the binomial kernel [1, 2, 1] / 4 along each axis, dilated; borders are replicated.

    Implemented as shifted additions, because a depthwise convolution is ten times as slow on a CPU.
    """
    for dim, pad in ((-1, (dilation, dilation, 0, 0)), (-2, (0, 0, dilation, dilation))):
        length = x.shape[dim]
        padded = F.pad(x, pad, mode="replicate")
        sides = padded.narrow(dim, 0, length) + padded.narrow(dim, 2 * dilation, length)
        x = sides.mul_(0.25).add_(x, alpha=0.5)
    return x


@dataclass
class Moments:
    """Running mean and deviation of an image per sample and channel, summed in float64 on the CPU.

    Attributes:
        count (int): pixels so far.
        total, squares (Tensor | float): sums of the values and of their squares, (B, C, 1, 1).
    """

    count: int = 0
    total: Tensor | float = 0.0
    squares: Tensor | float = 0.0

    def add(self, x: Tensor) -> Moments:
        """Add pixels (B, C, h, w), and return self."""
        with stage("colour"):
            count = x.shape[-2] * x.shape[-1]
            var, mean = (v.cpu().double() for v in torch.var_mean(x.float(), (-2, -1), correction=0, keepdim=True))
            self.count += count
            self.total = self.total + count * mean
            self.squares = self.squares + count * (var + mean.square())
        return self

    def mean_std(self) -> tuple[Tensor, Tensor]:
        """Return mean and standard deviation per channel, float32 (B, C, 1, 1); the variance is kept above zero."""
        total, squares = torch.as_tensor(self.total), torch.as_tensor(self.squares)
        variance = (squares - total.square() / self.count).clamp(min=0) / max(1, self.count - 1)
        return (total / self.count).float(), (variance + 1e-5).sqrt().float()


def adain_color_fix(x_hat: Tensor, source: Tensor) -> Tensor:
    """Give each channel of ``x_hat`` the mean and standard deviation of ``source`` (Huang & Belongie 2017).

    Args:
        x_hat (Tensor): restored image (B, C, H, W).
        source (Tensor): reference for colour (B, C, h, w); the size may differ.

    Returns:
        Tensor: shape of ``x_hat``, not clamped.
    """
    return adain(x_hat, Moments().add(x_hat), Moments().add(source))


def adain(x_hat: Tensor, own: Moments, wanted: Moments) -> Tensor:
    """Compute ``(x_hat - mean) / std * wanted_std + wanted_mean`` on part of an image with whole-image statistics.

    Args:
        x_hat (Tensor): part of the restored image (B, C, h, w).
        own (Moments): moments of the whole restored image.
        wanted (Moments): moments of the reference.
    """
    with stage("colour"):
        mean, std, wanted_mean, wanted_std = (v.to(x_hat.device) for v in (*own.mean_std(), *wanted.mean_std()))
        return (x_hat - mean) / std * wanted_std + wanted_mean
