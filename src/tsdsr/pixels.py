"""Convert between pixel arrays and image arrays. The only place that scales integers and rounds floats."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from tsdsr.arrays import Array, HostDevice, namespace

if TYPE_CHECKING:
    from torch import Tensor


def to_unit(x: Array) -> Array:
    """Convert uint8, uint16 or floating point to float32 in [0, 1]."""
    xp = namespace(x)
    if xp.isdtype(x.dtype, "real floating"):
        return xp.astype(x, xp.float32, copy=False)
    values = xp.astype(x, xp.float32)
    values /= xp.iinfo(x.dtype).max
    return values


def from_unit(x: Array, dtype: str) -> Array:
    """Clamp to [0, 1] and convert to ``dtype``; "uint8" and "uint16" use their whole range, rounded to nearest."""
    xp = namespace(x)
    kind, values = getattr(xp, dtype), xp.clip(x, 0, 1)
    if not xp.isdtype(kind, "real floating"):
        values *= xp.iinfo(kind).max
        xp.round(values, out=values)
    return xp.astype(values, kind, copy=False)


def to_tensor(pixels: NDArray[np.generic]) -> Tensor:
    """Convert pixels (H, W, C) to a tensor (C, H, W), float32 in [0, 1].

    Args:
        pixels (array): uint8, uint16, or floating point in [0, 1]; not kept.
    """
    import torch

    x: Tensor = to_unit(torch.from_numpy(pixels.transpose(2, 0, 1).copy()))
    return x


def to_uint8(x: Array) -> NDArray[np.uint8]:
    """Convert an image (C, H, W), nominally in [0, 1], to pixels (H, W, C), clamped and rounded to nearest."""
    rounded = from_unit(x, "uint8")
    pixels: NDArray[np.uint8] = HostDevice().upload(namespace(x).permute_dims(rounded, (1, 2, 0)))
    return pixels
