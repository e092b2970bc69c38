"""Convert between pixel arrays and image tensors. The only place that scales integers and rounds floats."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


def to_unit(x: Tensor) -> Tensor:
    """Convert uint8, uint16 or floating point to float32 in [0, 1]."""
    return x.to(torch.float32) if x.is_floating_point() else x.to(torch.float32).div_(torch.iinfo(x.dtype).max)


def from_unit(x: Tensor, dtype: torch.dtype) -> Tensor:
    """Clamp to [0, 1] and convert to ``dtype``; uint8 and uint16 use their whole range, rounded to nearest."""
    x = x.clamp(0, 1)
    return x.to(dtype) if dtype.is_floating_point else x.mul_(torch.iinfo(dtype).max).round_().to(dtype)


def to_tensor(pixels: NDArray[np.generic]) -> Tensor:
    """Convert pixels (H, W, C) to a tensor (C, H, W), float32 in [0, 1].

    Args:
        pixels (array): uint8, uint16, or floating point in [0, 1]; not kept.
    """
    return to_unit(torch.from_numpy(pixels.transpose(2, 0, 1).copy()))


def to_uint8(x: Tensor) -> NDArray[np.uint8]:
    """Convert an image (C, H, W), nominally in [0, 1], to pixels (H, W, C), clamped and rounded to nearest."""
    pixels: NDArray[np.uint8] = from_unit(x, torch.uint8).permute(1, 2, 0).cpu().numpy()
    return pixels
