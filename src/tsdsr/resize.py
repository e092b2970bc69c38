"""The one bicubic enlargement that training and inference share."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor


def upsample_bicubic(x: Tensor, size: tuple[int, int]) -> Tensor:
    """Enlarge (or, antialiased, shrink) images to ``size`` with a bicubic filter and clamp them to [0, 1].

    Args:
        x (Tensor): images (B, C, H, W) in [0, 1].
        size (tuple): target height and width.

    Returns:
        Tensor: (B, C, *size) in [0, 1].
    """
    if tuple(x.shape[-2:]) == tuple(size):
        return x.clamp(0, 1)
    shrinks = size[0] < x.shape[-2] or size[1] < x.shape[-1]
    return F.interpolate(x, size=size, mode="bicubic", align_corners=False, antialias=shrinks).clamp(0, 1)
