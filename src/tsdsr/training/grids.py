"""A loss against grids: what of a residual repeats with the period of the latent."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor


def grid_loss(x_hat: Tensor, x_hq: Tensor, period: int, relative: bool = False) -> Tensor:
    """How much of the residual repeats with a period: it is folded to one block, averaged over all blocks, freed of its
    mean, and its absolute value averaged. Content does not line up with a grid and averages out.

    Args:
        x_hat, x_hq (Tensor): images (B, C, H, W), sides multiples of ``period``.
        period (int): edge of a block in pixels, a multiple of 4; divisors of it are covered.
        relative (bool): fold each image by itself, as grids differ between images and cancel in their mean; of the
            residual only what is finer than about half a period, which has least of content; divided by its strength
            around each pixel, so that flat regions, where a grid is seen most, count as much as busy ones.

    Returns:
        Tensor: scalar.
    """
    residual = x_hat - x_hq
    if relative:
        around = F.avg_pool2d(residual, period // 2 + 1, stride=1, padding=period // 4, count_include_pad=False)
        residual = residual - around
        residual = residual / local_strength(residual.detach(), 2 * period + 1)
    batch, channels, height, width = residual.shape
    blocks = residual.reshape(batch, channels, height // period, period, width // period, period)
    pattern = blocks.mean((2, 4)) if relative else blocks.mean((0, 2, 4))
    return (pattern - pattern.mean((-2, -1), keepdim=True)).abs().mean()


def local_strength(residual: Tensor, window: int) -> Tensor:
    """Root mean square over channels and a square of odd edge ``window`` around each pixel, (B, 1, H, W); at least a
    quarter of an 8-bit step, as less is not seen."""
    power = residual.square().mean(1, keepdim=True)
    power = F.avg_pool2d(power, window, stride=1, padding=window // 2, count_include_pad=False)
    return power.sqrt().clamp(min=0.25 / 255)
