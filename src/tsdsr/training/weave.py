"""A loss against weave: invented patterns of single pixels, and coloured fringes."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from tsdsr.data.operators import luminance
from tsdsr.training.image_losses import local_strength

HALF_WEIGHT_STRENGTH = 1.5 / 255
"""Strength of the truth's finest luma detail at which :func:`smoothness` is one half."""


def weave_loss(x_hat: Tensor, x_hq: Tensor) -> Tensor:
    """Compute ``mean w |luma(u)| + mean |u - luma(u)|`` of the residual's finest detail ``u``.

    ``u`` is the residual minus :func:`without_finest_detail` of it: luma finer than about four pixels and chroma finer
    than about ten. Perceptual distances and discriminators reward such detail wherever it is, right or wrong. An
    absolute difference is least at the median: detail that follows from the input stays, invented detail goes. Texture
    has to be invented, so luma is weighted by ``w``, the truth's :func:`smoothness`; chroma counts everywhere.

    Args:
        x_hat (Tensor): restored images (B, 3, H, W) in [0, 1], sides above 4.
        x_hq (Tensor): true images, same shape.

    Returns:
        Tensor: scalar.
    """
    residual = x_hat - x_hq
    finest = residual - without_finest_detail(residual)
    luma = luminance(finest)
    return (smoothness(x_hq) * luma.abs()).mean() + (finest - luma).abs().mean()


def smoothness(x: Tensor) -> Tensor:
    """Compute ``c / (c + s)`` per pixel, (B, 3, H, W) → (B, 1, H, W): near 1 where ``x`` is smooth, near 0 in texture.

    ``s`` is the strength of the finest luma detail around the pixel, ``c`` is :data:`HALF_WEIGHT_STRENGTH`.
    """
    luma = luminance(x)
    strength = local_strength(luma - binomial_blur(luma, 2), window=9)
    return HALF_WEIGHT_STRENGTH / (HALF_WEIGHT_STRENGTH + strength)


def without_finest_detail(x: Tensor) -> Tensor:
    """Blur images (B, 3, H, W) as an eye does: luma loses what alternates from pixel to pixel, chroma much more.

    The result is float32. Half precision would have fewer levels than an 8-bit image.
    """
    with torch.autocast(x.device.type, enabled=False):
        fine, coarse = binomial_blur(x.float(), 2), binomial_blur(x.float(), 8)
    detail: Tensor = luminance(fine - coarse)
    return coarse + detail


def binomial_blur(x: Tensor, order: int) -> Tensor:
    """Filter images (B, C, H, W) with a binomial kernel along both axes: ``order + 1`` taps, variance ``order / 4``.

    ``order`` is even, so the size stays; borders are reflected. A pattern that alternates from pixel to pixel along an
    axis is removed entirely.
    """
    line = x.new_tensor([math.comb(order, k) for k in range(order + 1)]) / 2**order
    channels, pad = x.shape[1], order // 2
    x = F.pad(x, (pad,) * 4, mode="reflect")
    for shape in ((1, -1), (-1, 1)):
        x = F.conv2d(x, line.reshape(1, 1, *shape).repeat(channels, 1, 1, 1), groups=channels)
    return x
