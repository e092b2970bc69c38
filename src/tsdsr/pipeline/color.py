"""Colour alignment of a restored image with its low-quality source."""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from tsdsr.errors import InvalidInputError

ColorFix = Literal["wavelet", "adain", "none"]
COLOR_FIXES: tuple[ColorFix, ...] = ("wavelet", "adain", "none")


def wavelet_color_fix(x_hat: Tensor, source: Tensor, levels: int = 5) -> Tensor:
    """Keep the detail of ``x_hat`` and take the low frequencies from ``source``.

    The low-frequency part ``L`` is what remains after ``levels`` à-trous blurs with dilations 1, 2, 4, …; it is linear,
    so the exchange ``x_hat - L(x_hat) + L(source)`` needs one decomposition, of the difference.

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
    low = source - x_hat
    for level in range(levels):
        low = _atrous_blur(low, dilation=2**level)
    return x_hat + low


def _atrous_blur(x: Tensor, dilation: int) -> Tensor:
    """Filter with the binomial kernel [1, 2, 1] / 4 along each axis, dilated; borders are replicated."""
    kernel = torch.tensor([0.25, 0.5, 0.25], device=x.device, dtype=x.dtype)
    channels = x.shape[1]
    for shape, pad in (((1, 3), (dilation, dilation, 0, 0)), ((3, 1), (0, 0, dilation, dilation))):
        weight = kernel.reshape(1, 1, *shape).expand(channels, 1, *shape)
        x = F.conv2d(F.pad(x, pad, mode="replicate"), weight, dilation=dilation, groups=channels)
    return x


def adain_color_fix(x_hat: Tensor, source: Tensor) -> Tensor:
    """Give each channel of ``x_hat`` the mean and standard deviation of ``source`` (Huang & Belongie 2017).

    Args:
        x_hat (Tensor): restored image (B, C, H, W).
        source (Tensor): reference for colour (B, C, h, w); the size may differ.

    Returns:
        Tensor: shape of ``x_hat``, not clamped.
    """
    dims = (-2, -1)
    mean, std = x_hat.mean(dims, keepdim=True), (x_hat.var(dims, keepdim=True) + 1e-5).sqrt()
    source_mean, source_std = source.mean(dims, keepdim=True), (source.var(dims, keepdim=True) + 1e-5).sqrt()
    return (x_hat - mean) / std * source_std + source_mean


def apply_color_fix(method: ColorFix, x_hat: Tensor, source: Tensor) -> Tensor:
    """Run the named method; ``source`` has the size of ``x_hat``.

    Raises:
        InvalidInputError: unknown method.
    """
    if method == "wavelet":
        return wavelet_color_fix(x_hat, source)
    if method == "adain":
        return adain_color_fix(x_hat, source)
    if method == "none":
        return x_hat
    raise InvalidInputError(f"unknown color_fix {method!r}; choose from {', '.join(COLOR_FIXES)}")
