"""Transparency: colours continued below it for the model, and its enlargement with edges kept."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from tsdsr.images.picture import Pixels, strips

_TRUSTED = 0.125
"""Colours of pixels with at least this alpha are kept as they are; below it they fade into the surrounding ones."""
_STEPS, _BLOCK, _MARGIN = 12, 64, 12

_Plane = NDArray[np.float32]


def fill_transparent(pixels: Pixels, alpha: Pixels) -> Pixels:
    """Continue the visible colours below transparent parts, so that a model sees no edge to something invisible.

    A pyramid of averages weighted by alpha: a transparent pixel takes its colour from the finest level at which
    anything around it is visible ("push-pull", Gortler et al. 1996, The Lumigraph).

    Args:
        pixels (array): (H, W, C), straight colours.
        alpha (array): (H, W), of the same dtype.

    Returns:
        array: like ``pixels``; the same where alpha is at least an eighth.
    """
    full = int(np.iinfo(pixels.dtype).max)
    height, width, channels = pixels.shape
    half = np.empty(((height + 1) // 2, (width + 1) // 2, channels + 1), np.float32)
    groups = strips(len(half), width * channels * 16)
    for rows in groups:
        part = slice(2 * rows.start, 2 * rows.stop)
        half[rows] = _halved(_weighted(pixels[part], alpha[part], full))
    filled = _filled(half)
    columns = _Taps.between(half.shape[1], np.arange(width), 0.5)
    result = np.empty_like(pixels)
    for rows in groups:
        part = slice(2 * rows.start, min(2 * rows.stop, height))
        if alpha[part].min() >= full * _TRUSTED:
            result[part] = pixels[part]
            continue
        around = _interpolated(filled, _Taps.between(len(half), np.arange(part.start, part.stop), 0.5), columns)
        trust = np.minimum(alpha[part, :, None] / np.float32(full * _TRUSTED), 1)
        around *= full * (1 - trust)
        around += pixels[part] * trust
        result[part] = np.rint(around)
    return result


def _weighted(pixels: Pixels, alpha: Pixels, full: int) -> _Plane:
    """Colours times alpha, and alpha: (h, w, C + 1) in [0, 1]."""
    weighted = np.empty((*alpha.shape, pixels.shape[2] + 1), np.float32)
    weight = weighted[..., -1:]
    np.divide(alpha[..., None], np.float32(full), out=weight)
    np.multiply(pixels, weight / np.float32(full), out=weighted[..., :-1])
    return weighted


def _halved(x: _Plane) -> _Plane:
    """Means of 2x2 pixels; at an odd end, of the pixels that are there."""
    height, width = x.shape[:2]
    sums = x[::2].copy()
    sums[: height // 2] += x[1::2]
    if height % 2:
        sums[-1] *= 2
    means: _Plane = sums[:, ::2].copy()
    means[:, : width // 2] += sums[:, 1::2]
    if width % 2:
        means[:, -1] *= 2
    means *= 0.25
    return means


@dataclass(frozen=True)
class _Taps:
    """Linear interpolation along one axis: ``first + share * (second - first)``.

    Attributes:
        first, second (array): indices of the two neighbours (n,).
        share (array): how much of the second (n,), float32.
    """

    first: NDArray[np.intp]
    second: NDArray[np.intp]
    share: _Plane

    @classmethod
    def between(cls, length: int, targets: NDArray[np.intp], scale: float) -> _Taps:
        """For target pixels, each ``scale`` source pixels wide, of a source of some length; edges are repeated."""
        centres = np.maximum((targets + 0.5) * scale - 0.5, 0)
        first = np.minimum(centres.astype(np.intp), length - 1)
        return cls(first, np.minimum(first + 1, length - 1), (centres - first).astype(np.float32))

    def apply(self, x: _Plane, axis: Literal[0, 1]) -> _Plane:
        """Interpolate (h, w, C) along an axis."""
        first = x.take(self.first, axis)
        result: _Plane = x.take(self.second, axis)
        result -= first
        result *= self.share[:, None, None] if axis == 0 else self.share[:, None]
        result += first
        return result


def _interpolated(x: _Plane, rows: _Taps, columns: _Taps) -> _Plane:
    """Bilinear interpolation of (h, w, C) at the given rows and columns."""
    top = int(rows.first[0])
    x = x[top : int(rows.second[-1]) + 1]
    across = columns.apply(x, 1)
    return _Taps(rows.first - top, rows.second - top, rows.share).apply(across, 0)


def _filled(weighted: _Plane) -> _Plane:
    """Colours (h, w, C) without holes from weighted colours and weights (h, w, C + 1), which are overwritten."""
    colours, weight = weighted[..., :-1], weighted[..., -1:]
    height, width = weight.shape[:2]
    if max(height, width) == 1:
        bottom: _Plane = colours / np.maximum(weight, np.float32(1e-6))
        return bottom
    coarse = _filled(_halved(weighted))
    columns = _Taps.between(coarse.shape[1], np.arange(width), coarse.shape[1] / width)
    for part in strips(height, weighted[:1].nbytes):
        rows = _Taps.between(len(coarse), np.arange(part.start, part.stop), len(coarse) / height)
        colours[part] += (1 - weight[part]) * _interpolated(coarse, rows, columns)
    return colours


def enlarge_alpha(alpha: Pixels, size: tuple[int, int]) -> Pixels:
    """Enlarge alpha with its edges as sharp as the small one allows.

    Bicubic enlargement, corrected until shrinking it gives the small alpha again (iterative back-projection, Irani &
    Peleg 1991), and held within the range of the neighbouring small values: what is opaque or transparent stays so, and
    nothing rings. Blocks without an edge are filled directly.

    Args:
        alpha (array): (h, w) of uint8 or uint16.
        size (tuple): height and width of the result, each at least the input's.

    Returns:
        array: (*size), of the same dtype.
    """
    result: NDArray[Any] = np.empty(size, alpha.dtype)
    for top in range(0, alpha.shape[0], _BLOCK):
        for left in range(0, alpha.shape[1], _BLOCK):
            _enlarge_block(alpha, result, top, left)
    return result


def _enlarge_block(alpha: Pixels, result: NDArray[Any], top: int, left: int) -> None:
    """Fill the part of the result that belongs to one block, computed with a margin around it."""
    rows, columns = (
        _Axis.around(start, length, enlarged)
        for start, length, enlarged in zip((top, left), alpha.shape, result.shape, strict=True)
    )
    part = alpha[rows.source, columns.source]
    full = int(np.iinfo(alpha.dtype).max)
    if part.min() == part.max():
        result[rows.block, columns.block] = part[0, 0]
        return
    x = _back_projected(part.astype(np.float32) / np.float32(full), rows, columns)
    inner = tuple(slice(a.block.start - a.target.start, a.block.stop - a.target.start) for a in (rows, columns))
    result[rows.block, columns.block] = np.rint(x[inner] * full)


@dataclass(frozen=True)
class _Axis:
    """A block along one axis: small pixels ``source``, enlarged ones ``target`` of which ``block`` are wanted."""

    source: slice
    target: slice
    block: slice
    scale: float

    @classmethod
    def around(cls, start: int, length: int, enlarged: int) -> _Axis:
        stop = min(start + _BLOCK, length)
        source = slice(max(0, start - _MARGIN), min(length, stop + _MARGIN))
        target, block = (
            slice(s.start * enlarged // length, s.stop * enlarged // length) for s in (source, slice(start, stop))
        )
        return cls(source, target, block, enlarged / length)

    @property
    def centres(self) -> NDArray[np.float64]:
        """Where the target's pixels lie among the source's (t,)."""
        target = np.arange(self.target.start, self.target.stop)
        centres: NDArray[np.float64] = (target + 0.5) / self.scale - 0.5 - self.source.start
        return centres

    @property
    def nearest(self) -> NDArray[np.intp]:
        """The source pixel that each of the target's lies in (t,)."""
        return np.rint(self.centres).astype(np.intp).clip(0, self.source.stop - self.source.start - 1)

    @property
    def enlarging(self) -> _Plane:
        """Cubic interpolation (Keys 1981, a = -1/2) as a matrix (t, s) on the grid of the whole image."""
        d = np.abs(self.centres[:, None] - np.arange(self.source.stop - self.source.start))
        near, far = 1.5 * d**3 - 2.5 * d**2 + 1, -0.5 * d**3 + 2.5 * d**2 - 4 * d + 2
        return _normalised(np.where(d < 1, near, np.where(d < 2, far, 0.0)))


def _normalised(matrix: NDArray[Any]) -> _Plane:
    rows: _Plane = (matrix / matrix.sum(1, keepdims=True)).astype(np.float32)
    return rows


def _back_projected(small: _Plane, rows: _Axis, columns: _Axis) -> _Plane:
    """Enlarge (h, w), values in [0, 1]."""
    up_rows, up_columns = rows.enlarging, columns.enlarging
    down_rows, down_columns = _normalised(up_rows.T), _normalised(up_columns.T)
    x: _Plane = up_rows @ small @ up_columns.T
    for _ in range(_STEPS):
        x += up_rows @ (small - down_rows @ x @ down_columns.T) @ up_columns.T
        x.clip(0, 1, out=x)
    ys, xs = rows.nearest, columns.nearest
    low, high = (_of_neighbours(small, extreme)[ys][:, xs] for extreme in (np.minimum, np.maximum))
    return np.minimum(np.maximum(x, low, out=x), high, out=x)


def _of_neighbours(x: _Plane, extreme: np.ufunc) -> _Plane:
    """The least or greatest value among each pixel of (h, w) and its eight neighbours."""
    padded = np.pad(x, 1, mode="edge")
    rows = extreme(extreme(padded[:-2], padded[1:-1]), padded[2:])
    found: _Plane = extreme(extreme(rows[:, :-2], rows[:, 1:-1]), rows[:, 2:])
    return found
