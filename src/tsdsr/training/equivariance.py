"""Equivariance: the restoration of a turned or mirrored image should be the turned or mirrored restoration.

Details that come from the image turn with it. Speckle and mesh that a network invents by itself do not, so the
difference shows them where no ground truth could: texture that is possible but not true costs as little as the truth.
"""

from __future__ import annotations

import torch
from torch import Tensor

from tsdsr.training.samples import TrainingSample

TURNS = 8
"""Quarter turns of an image and of its mirror image; number 0 changes nothing."""


def turned(x: Tensor, turn: int) -> Tensor:
    """Mirror images (..., H, W) left to right if ``turn`` is at least 4, then turn by ``turn % 4`` quarter turns.

    Args:
        x (Tensor): images; quarter turns exchange H and W.
        turn (int): 0 to 7.
    """
    return torch.rot90(x.flip(-1) if turn >= 4 else x, turn % 4, (-2, -1))


def with_turned_half(batch: TrainingSample, turn: int) -> TrainingSample:
    """Replace the second half of a batch of square images by the first half, turned.

    Args:
        batch (TrainingSample): a micro-batch of at least 2 images; of an odd number, the last one is left out. So the
            samples of a step depend on how its batch is split.
        turn (int): see :func:`turned`.

    Returns:
        TrainingSample: the first half, then its turned copies, with the prompts of the originals. Turned images have
        no key, because caches hold latents of images as they are.
    """
    half = len(batch.x_hq) // 2

    def twice(images: Tensor) -> Tensor:
        return torch.cat([images[:half], turned(images[:half], turn)])

    prompts, keys = list(batch.prompt[:half]), list(batch.key[:half])
    items = batch.item[: 2 * half]
    return TrainingSample(items, twice(batch.x_lq), twice(batch.x_hq), prompts * 2, keys + [""] * half)


def equivariance_loss(x_hat: Tensor, turn: int) -> Tensor:
    """Mean absolute difference between turned restorations and restorations of the turned images.

    Args:
        x_hat (Tensor): restorations (2B, 3, H, W) of a batch of :func:`with_turned_half`.
        turn (int): the same number.
    """
    half = len(x_hat) // 2
    return (turned(x_hat[:half], turn) - x_hat[half:]).abs().mean()
