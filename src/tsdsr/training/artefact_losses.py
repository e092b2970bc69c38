"""The losses of a phase against what networks draw by themselves: grids, weave, speckle."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from torch import Tensor

from tsdsr.training.config import Phase, Ramp, Schedule
from tsdsr.training.equivariance import TURNS, equivariance_loss
from tsdsr.training.image_losses import grid_loss
from tsdsr.training.weave import weave_loss

_TURN = 3  # random stream


def least_images(phase: Schedule) -> int:
    """Return the least number of images in a micro-batch: equivariance compares two halves."""
    return 2 if isinstance(phase, Phase) and phase.equivariance_weight else 1


def turn_of_step(phase: Phase, seed: int, step: int) -> int:
    """Return which turn the images of a step take: 1 to 7, given by (seed, step), or 0 without equivariance."""
    if not phase.equivariance_weight:
        return 0
    return 1 + int(np.random.default_rng((seed, _TURN, step)).integers(TURNS - 1))


def artefact_losses(
    phase: Phase, x_hat: Tensor, x_hq: Tensor, period: int, turn: int
) -> Iterator[tuple[str, Ramp, Tensor]]:
    """Compute the losses that a phase uses.

    Args:
        phase (Phase): the phase.
        x_hat, x_hq (Tensor): restorations and ground truth (B, 3, H, W) in [0, 1].
        period (int): period of the grid, in pixels.
        turn (int): how the second half of the batch is turned, see :func:`tsdsr.training.equivariance.turned`.

    Yields:
        tuple: name of a loss, its weight, and its value.
    """
    if phase.grid_weight:
        yield "grid", phase.grid_weight, grid_loss(x_hat, x_hq, period, phase.grid_relative)
    if phase.weave_weight:
        yield "weave", phase.weave_weight, weave_loss(x_hat, x_hq)
    if turn:
        yield "equivariance", phase.equivariance_weight, equivariance_loss(x_hat, turn)
