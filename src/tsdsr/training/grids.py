"""A loss against grids: what of a residual repeats with the period of the latent."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

_CHANCE = 0.02
"""About how strong the mean of some twenty batches' relative patterns is by chance."""


class GridTerm:
    """The term against grids of one run: each batch's own, or along what earlier steps had in common.

    Args:
        period (int): edge of a block in pixels, see :func:`grid_loss`.
    """

    def __init__(self, period: int) -> None:
        self.period = period
        self.memory: Tensor | None = None
        self._pending: list[Tensor] = []

    def begin(self) -> None:
        """Before a step: forget micro-batches of one that was not taken."""
        self._pending.clear()

    def loss(self, x_hat: Tensor, x_hq: Tensor, relative: bool, remembered: bool) -> Tensor:
        """:func:`grid_loss`, or :func:`remembered_grid_loss`, of one micro-batch; nothing is remembered at first."""
        pattern = grid_pattern(x_hat, x_hq, self.period, relative)
        if not remembered:
            return pattern.abs().mean()
        self._pending.append(pattern.detach())
        return remembered_grid_loss(pattern, torch.zeros_like(pattern) if self.memory is None else self.memory)

    def remember(self, decay: float, mean: Callable[[Tensor], Tensor]) -> None:
        """After a step: its grids join the running mean.

        Args:
            decay (float): weight of the past in it.
            mean (callable): a tensor's mean over all processes.
        """
        if self._pending:
            new = mean(torch.stack(self._pending).mean(0))
            self.memory = new if self.memory is None else torch.lerp(new, self.memory, decay)
        self._pending.clear()


def grid_loss(x_hat: Tensor, x_hq: Tensor, period: int, relative: bool = False) -> Tensor:
    """How much of the residual repeats with a period: it is folded to one block, averaged over all blocks of all
    images, freed of its mean, and its absolute value averaged. Content does not line up with a grid and averages out.

    Args:
        x_hat, x_hq (Tensor): images (B, C, H, W), sides multiples of ``period``.
        period (int): edge of a block in pixels; divisors of it are covered.
        relative (bool): divide the residual by its strength around each pixel first. Flat regions, where a grid is
            seen most, then count as much as busy ones, whose large residuals drown it otherwise.

    Returns:
        Tensor: scalar.
    """
    return grid_pattern(x_hat, x_hq, period, relative).abs().mean()


def grid_pattern(x_hat: Tensor, x_hq: Tensor, period: int, relative: bool = False) -> Tensor:
    """The folded and averaged residual of :func:`grid_loss`, of mean zero in each channel, (C, period, period)."""
    residual = x_hat - x_hq
    if relative:
        residual = residual / local_strength(residual.detach(), 2 * period + 1)
    batch, channels, height, width = residual.shape
    blocks = residual.reshape(batch, channels, height // period, period, width // period, period)
    pattern = blocks.mean((0, 2, 4))
    return pattern - pattern.mean((-2, -1), keepdim=True)


def remembered_grid_loss(pattern: Tensor, memory: Tensor) -> Tensor:
    """How far a batch's pattern points along the mean of earlier batches' patterns.

    A batch has few blocks, and most of its pattern is chance: :func:`grid_loss` pulls hard, and in another direction at
    every step. What many batches have in common is the grid; where they have nothing in common, nothing pulls.

    Args:
        pattern (Tensor): :func:`grid_pattern` of this batch, which gradients reach.
        memory (Tensor): running mean of earlier ones, same shape.

    Returns:
        Tensor: scalar; negative where the batch points the other way.
    """
    strength = memory.square().mean().sqrt()
    return (pattern * memory).mean() / (strength + _CHANCE)


def local_strength(residual: Tensor, window: int) -> Tensor:
    """Root mean square over channels and a square of odd edge ``window`` around each pixel, (B, 1, H, W); at least the
    half of an 8-bit step, as less is not seen."""
    power = residual.square().mean(1, keepdim=True)
    power = F.avg_pool2d(power, window, stride=1, padding=window // 2, count_include_pad=False)
    return power.sqrt().clamp(min=0.5 / 255)
