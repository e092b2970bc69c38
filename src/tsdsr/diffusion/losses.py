"""Training losses, one function an equation."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch.nn.functional as F
from torch import Tensor


class ReconstructionTerms(NamedTuple):
    """The weighted sum and its unweighted parts, all scalars."""

    total: Tensor
    l1: Tensor
    perceptual: Tensor


def pixel_reconstruction_loss(
    x_hat: Tensor,
    x_hq: Tensor,
    perceptual: Callable[[Tensor, Tensor], Tensor] | None,
    l1_weight: float = 1.0,
    perceptual_weight: float = 0.5,
) -> ReconstructionTerms:
    """``L = w_1 |x_hat - x_hq| + w_p LPIPS(x_hat, x_hq)``, the pixel-space relative of the paper's eq. 7.

    Args:
        x_hat (Tensor): restored images (B, 3, H, W) in [0, 1] (may overshoot).
        x_hq (Tensor): ground truth, same shape.
        perceptual (callable | None): maps two batches in [0, 1] to a scalar distance; None leaves the term out.
        l1_weight (float): ``w_1``.
        perceptual_weight (float): ``w_p``.
    """
    l1 = F.l1_loss(x_hat, x_hq)
    distance = perceptual(x_hat, x_hq) if perceptual is not None else l1.new_zeros(())
    return ReconstructionTerms(l1_weight * l1 + perceptual_weight * distance, l1, distance)
