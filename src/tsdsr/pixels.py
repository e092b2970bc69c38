"""Arrays of pixels ↔ image tensors: the one place where integers become floats and floats are rounded."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


def to_unit(x: Tensor) -> Tensor:
    """uint8, uint16 or floating point → float32 in [0, 1]."""
    return x.to(torch.float32) if x.is_floating_point() else x.to(torch.float32).div_(torch.iinfo(x.dtype).max)


def from_unit(x: Tensor, dtype: torch.dtype) -> Tensor:
    """Values clamped to [0, 1] in ``dtype``: uint8 and uint16 rounded to nearest, over their whole range."""
    x = x.clamp(0, 1)
    return x.to(dtype) if dtype.is_floating_point else x.mul_(torch.iinfo(dtype).max).round_().to(dtype)


def to_tensor(pixels: NDArray[np.generic]) -> Tensor:
    """Pixels (H, W, C) → (C, H, W), float32 in [0, 1].

    Args:
        pixels (array): uint8, uint16, or floating point in [0, 1]; not kept.
    """
    return to_unit(torch.from_numpy(pixels.transpose(2, 0, 1).copy()))


def to_uint8(x: Tensor) -> NDArray[np.uint8]:
    """An image (C, H, W), nominally in [0, 1] → pixels (H, W, C), clamped and rounded to nearest."""
    pixels: NDArray[np.uint8] = from_unit(x, torch.uint8).permute(1, 2, 0).cpu().numpy()
    return pixels
