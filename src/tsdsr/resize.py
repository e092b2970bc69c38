"""Bicubic resizing shared by training and inference, for whole images or for windows of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from tsdsr.arrays import Array, beside, namespace, new_empty, take, transposed

if TYPE_CHECKING:
    from torch import Tensor

_GROUP = 32
"""Rows that one matrix product computes; they share most of the source rows that they read."""


def upsample_bicubic(x: Tensor, size: tuple[int, int]) -> Tensor:
    """Resize images to ``size`` with a bicubic filter and clamp them to [0, 1]; shrinking is antialiased.

    Args:
        x (Tensor): images (B, C, H, W) in [0, 1].
        size (tuple): target height and width.

    Returns:
        Tensor: (B, C, *size) in [0, 1].
    """
    import torch.nn.functional as F

    if tuple(x.shape[-2:]) == tuple(size):
        return x.clamp(0, 1)
    shrinks = size[0] < x.shape[-2] or size[1] < x.shape[-1]
    return F.interpolate(x, size=size, mode="bicubic", align_corners=False, antialias=shrinks).clamp(0, 1)


@dataclass(frozen=True)
class BicubicWeights:
    """Bicubic filter for some rows of an image that is enlarged in height, as matrices of groups of neighbouring rows.

    Attributes:
        first, stop (int): range of the source rows that the filter reads.
        count (int): number n of target rows.
        index (ndarray): for each group, the k source rows it reads, relative to ``first``, int64 (groups, k).
        matrices (ndarray): filter weights, float32 (groups, 32, k).
    """

    first: int
    stop: int
    count: int
    index: np.ndarray
    matrices: np.ndarray

    @classmethod
    def at(cls, positions: np.ndarray, length: int, enlarged: int) -> BicubicWeights:
        """Compute the filter for ``positions`` of an axis that is enlarged from ``length`` to ``enlarged``.

        The kernel is Keys' with a = -0.75 and border pixels are repeated, as in ``torch.nn.functional.interpolate``.
        Source positions are rounded to float32 exactly where torch rounds them. Far from the origin, the float32 value
        of ``scale (i + 1/2) - 1/2`` is off by up to a thousandth of a pixel, and the results have to match.

        Args:
            positions (ndarray): target positions, integers (n,) in [0, enlarged).
            length (int): size of the source axis in pixels.
            enlarged (int): size of the target axis in pixels, at least ``length``.
        """
        scale = float(np.float32(length / enlarged))
        source = (scale * (positions + 0.5) - 0.5).astype(np.float32).astype(np.float64)
        base = np.floor(source)
        t = source - base
        weights = np.stack([_keys_outer(t + 1), _keys_inner(t), _keys_inner(1 - t), _keys_outer(2 - t)])
        taps = (base.astype(np.int64) + np.arange(-1, 3)[:, None]).clip(0, length - 1)
        first, stop = int(taps.min()), int(taps.max()) + 1
        return cls(first, stop, len(positions), *_grouped(taps - first, weights.astype(np.float32), stop - first))

    def apply(self, crop: Array) -> Array:
        """Resample the rows of ``crop`` (B, C, h, w), which covers [first, stop): (B, C, n, w), not clamped."""
        xp, batch, width = namespace(crop), crop.shape[:-2], crop.shape[-1]
        groups, read = self.index.shape
        near = xp.reshape(take(crop, self.index.reshape(-1), -2), (*batch, groups, read, width))
        rows = new_empty(crop, (*batch, groups, _GROUP, width))
        xp.matmul(beside(self.matrices, crop), near, out=rows)  # given an output, torch's autocast rounds nothing
        return xp.reshape(rows, (*batch, groups * _GROUP, width))[..., : self.count, :]


def _grouped(taps: np.ndarray, weights: np.ndarray, length: int) -> tuple[np.ndarray, np.ndarray]:
    """Turn source positions and weights (4, n) into ``index`` and ``matrices`` of :class:`BicubicWeights`."""
    groups, missing = -(-taps.shape[1] // _GROUP), -taps.shape[1] % _GROUP
    taps = np.pad(taps, ((0, 0), (0, missing)), mode="edge").reshape(-1, groups, _GROUP)
    weights = np.pad(weights, ((0, 0), (0, missing))).reshape(-1, groups, _GROUP)
    lowest, highest = taps.min((0, 2)), taps.max((0, 2))
    read = int((highest - lowest).max()) + 1
    starts = np.minimum(lowest, length - read)[:, None]
    matrices = np.zeros((groups, _GROUP, read), np.float32)
    group, row = np.indices((groups, _GROUP))
    for near, weight in zip(taps - starts, weights, strict=True):  # at the border, several taps read the same row
        matrices[group, row, near] += weight
    return starts + np.arange(read), matrices


class BicubicWindow:
    """A window of an enlarged image: the part of the source it reads, and its pixels.

    They are those of :func:`upsample_bicubic`, within rounding (2e-6), anywhere in the image.

    Args:
        rows, cols (ndarray): target positions, integers (n,) and (m,).
        source (tuple): height and width of the source image in pixels.
        size (tuple): height and width of the enlarged image, each at least the source's.
    """

    def __init__(self, rows: np.ndarray, cols: np.ndarray, source: Sequence[int], size: Sequence[int]) -> None:
        self._rows = BicubicWeights.at(rows, source[0], size[0])
        self._cols = BicubicWeights.at(cols, source[1], size[1])
        self.crop = (..., slice(self._rows.first, self._rows.stop), slice(self._cols.first, self._cols.stop))
        """Index of the part of the source, (B, C, H, W), that the window reads."""

    def enlarge(self, crop: Array) -> Array:
        """Enlarge the part of the source named by :attr:`crop`, float32 in [0, 1]: (B, C, n, m), clamped to [0, 1]."""
        result = self._rows.apply(transposed(self._cols.apply(transposed(crop))))
        return namespace(crop).clip(result, 0, 1, out=result)


_A = -0.75


def _keys_inner(x: np.ndarray) -> np.ndarray:
    """Keys' kernel for distances of 0 to 1."""
    value: np.ndarray = ((_A + 2) * x - (_A + 3)) * x * x + 1
    return value


def _keys_outer(x: np.ndarray) -> np.ndarray:
    """Keys' kernel for distances of 1 to 2."""
    value: np.ndarray = ((_A * x - 5 * _A) * x + 8 * _A) * x - 4 * _A
    return value
