"""Measure the visibility of tile borders."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def seam_energy(x: Tensor, borders: Sequence[tuple[int, int]], period: int, margin: int) -> float:
    """Second differences across columns in the given stretches over those elsewhere; 1 means nothing is to be seen.

    Stretches are widened to whole periods, so that a pattern the network repeats weighs the same on both sides.

    Args:
        x (Tensor): image (B, C, H, W).
        borders (sequence of (start, stop)): columns where neighbouring tiles are blended.
        period (int): period of the network's own pattern in pixels.
        margin (int): pixels at the image's borders that are left out.
    """
    bend = (x[..., 2:] - 2 * x[..., 1:-1] + x[..., :-2])[..., margin:-margin, :].abs().double().mean((0, 1, 2))
    energy = torch.cat([bend[:1], bend, bend[-1:]])  # back to one value a column
    seam = torch.zeros(x.shape[-1], dtype=torch.bool)
    for start, stop in borders:
        seam[start // period * period : -(-stop // period) * period] = True
    inner = torch.zeros_like(seam)
    inner[-(-margin // period) * period : (x.shape[-1] - margin) // period * period] = True
    return float(energy[seam & inner].mean() / energy[~seam & inner].mean())
