"""Bicubic resizing shared by training and inference, for whole images or for windows of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from tsdsr.arrays import Array, beside, contiguous, namespace, new_empty, part

if TYPE_CHECKING:
    from torch import Tensor

_GROUP = 32
"""Target positions that one matrix product computes; they share most of the source positions that they read."""


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
    """Bicubic filter for some positions of an enlarged axis, as matrices of groups of neighbouring positions.

    ``rows.apply(cols.apply(crop, -1), -2)``, clamped to [0, 1], gives the pixels of :func:`upsample_bicubic` at the
    chosen rows and columns, within rounding (2e-6), anywhere in the image.

    Attributes:
        first, stop (int): range of the source axis that the filter reads.
        count (int): number n of target positions.
        starts (sequence of int): for each group, the first source position it reads, relative to ``first``.
        matrices (ndarray): filter weights float32 (groups, 32, k), for the k source positions from ``starts`` on.
    """

    first: int
    stop: int
    count: int
    starts: Sequence[int]
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
        index = (base.astype(np.int64) + np.arange(-1, 3)[:, None]).clip(0, length - 1)
        first, stop = int(index.min()), int(index.max()) + 1
        return cls(first, stop, len(positions), *_matrices(index - first, weights.astype(np.float32), stop - first))

    def apply(self, crop: Array, axis: int) -> Array:
        """Resample ``crop`` (B, C, h, w) along axis -1 or -2, where it covers [first, stop), without clamping."""
        xp, matrices = namespace(crop), beside(self.matrices, crop)
        shape = (*crop.shape[:-1], self.count) if axis == -1 else (*crop.shape[:-2], self.count, crop.shape[-1])
        result, read = new_empty(crop, shape), self.matrices.shape[-1]
        for i, start in enumerate(self.starts):
            stop = min((i + 1) * _GROUP, self.count)
            matrix, near = matrices[i, : stop - i * _GROUP], part(crop, start, start + read, axis)
            # An explicit output also keeps torch's autocast from rounding the factors.
            target = part(result, i * _GROUP, stop, axis)
            xp.matmul(near, matrix.T, out=target) if axis == -1 else xp.matmul(matrix, near, out=target)
        return result


def _matrices(index: np.ndarray, weights: np.ndarray, length: int) -> tuple[list[int], np.ndarray]:
    """Turn source positions and weights (4, n) into ``starts`` and ``matrices`` of :class:`BicubicWeights`."""
    groups = [slice(i, i + _GROUP) for i in range(0, index.shape[1], _GROUP)]
    lows = [int(index[:, group].min()) for group in groups]
    read = max(int(index[:, group].max()) + 1 - low for group, low in zip(groups, lows, strict=True))
    starts = [min(low, length - read) for low in lows]
    matrices = np.zeros((len(groups), _GROUP, read), np.float32)
    for matrix, group, start in zip(matrices, groups, starts, strict=True):
        taps, own = index[:, group] - start, weights[:, group]
        rows = np.arange(taps.shape[1])
        for k in range(len(taps)):  # one by one: at the border, several taps read the same position
            matrix[rows, taps[k]] += own[k]
    return starts, matrices


class BicubicWindow:
    """A window of an enlarged image: the part of the source it reads, and its pixels.

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
        result = self._rows.apply(self._cols.apply(contiguous(crop), -1), -2)
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
