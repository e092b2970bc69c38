"""Bicubic resizing shared by training and inference, for whole images or for windows of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor


def upsample_bicubic(x: Tensor, size: tuple[int, int]) -> Tensor:
    """Resize images to ``size`` with a bicubic filter and clamp them to [0, 1]; shrinking is antialiased.

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


@dataclass(frozen=True)
class BicubicWeights:
    """Bicubic filter taps for some positions of an enlarged axis: four source positions and weights for each.

    ``rows.apply(cols.apply(crop, -1), -2).clamp(0, 1)`` gives the pixels of :func:`upsample_bicubic` at the chosen
    rows and columns, within rounding (2e-6), anywhere in the image.

    Attributes:
        first, stop (int): range of the source axis that the taps read.
        index (Tensor): source positions relative to ``first``, int64 (4, n).
        weight (Tensor): filter weights, float32 (4, n).
    """

    first: int
    stop: int
    index: Tensor
    weight: Tensor

    @classmethod
    def at(cls, positions: Tensor, length: int, enlarged: int) -> BicubicWeights:
        """Compute the taps for ``positions`` of an axis that is enlarged from ``length`` to ``enlarged``.

        The kernel is Keys' with a = -0.75 and border pixels are repeated, as in ``torch.nn.functional.interpolate``.
        Source positions are rounded to float32 exactly where torch rounds them. Far from the origin, the float32 value
        of ``scale (i + 1/2) - 1/2`` is off by up to a thousandth of a pixel, and the results have to match.

        Args:
            positions (Tensor): target positions, integers (n,) in [0, enlarged).
            length (int): size of the source axis in pixels.
            enlarged (int): size of the target axis in pixels, at least ``length``.
        """
        scale = torch.tensor(length / enlarged, dtype=torch.float64).float().double()
        source = (scale * (positions.double() + 0.5) - 0.5).float().double()
        base = source.floor()
        t = source - base
        weight = torch.stack([_keys_outer(t + 1), _keys_inner(t), _keys_inner(1 - t), _keys_outer(2 - t)]).float()
        index = (base.long() + torch.arange(-1, 3)[:, None]).clamp(0, length - 1)
        first, stop = int(index.min()), int(index.max()) + 1
        return cls(first, stop, index - first, weight)

    def to(self, device: torch.device) -> BicubicWeights:
        """Copy the taps to a device."""
        return BicubicWeights(self.first, self.stop, self.index.to(device), self.weight.to(device))

    def apply(self, crop: Tensor, dim: int) -> Tensor:
        """Resample ``crop`` along ``dim``, where it covers [first, stop), without clamping."""
        weight = self.weight if dim == -1 else self.weight[:, :, None]
        result = crop.index_select(dim, self.index[0]).mul_(weight[0])
        for k in range(1, 4):
            result.addcmul_(crop.index_select(dim, self.index[k]), weight[k])
        return result


class BicubicWindow:
    """A window of an enlarged image: the part of the source it reads, and its pixels.

    Args:
        rows, cols (Tensor): target positions, integers (n,) and (m,).
        source (tuple): height and width of the source image in pixels.
        size (tuple): height and width of the enlarged image, each at least the source's.
    """

    def __init__(self, rows: Tensor, cols: Tensor, source: Sequence[int], size: Sequence[int]) -> None:
        self._rows = BicubicWeights.at(rows, source[0], size[0])
        self._cols = BicubicWeights.at(cols, source[1], size[1])
        self.crop = (..., slice(self._rows.first, self._rows.stop), slice(self._cols.first, self._cols.stop))
        """Index of the part of the source, (B, C, H, W), that the window reads."""

    def enlarge(self, crop: Tensor) -> Tensor:
        """Enlarge the part of the source named by :attr:`crop`, in [0, 1]: (B, C, n, m), clamped to [0, 1]."""
        rows, cols = (weights.to(crop.device) for weights in (self._rows, self._cols))
        return rows.apply(cols.apply(crop, -1), -2).clamp_(0, 1)


_A = -0.75


def _keys_inner(x: Tensor) -> Tensor:
    """Keys' kernel for distances of 0 to 1."""
    return ((_A + 2) * x - (_A + 3)) * x * x + 1


def _keys_outer(x: Tensor) -> Tensor:
    """Keys' kernel for distances of 1 to 2."""
    return ((_A * x - 5 * _A) * x + 8 * _A) * x - 4 * _A
