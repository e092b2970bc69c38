"""Transparency: filling in the colours of transparent pixels for the model, and edge-preserving upscaling of alpha."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from tsdsr.images.picture import Pixels, strips

_TRUSTED = 0.125
"""Pixels with at least this alpha keep their colour; below it, colours are blended into their surroundings."""
_STEPS, _BLOCK, _MARGIN = 12, 64, 12

_Plane = NDArray[np.float32]


def fill_transparent(pixels: Pixels, alpha: Pixels) -> Pixels:
    """Extend visible colours into transparent regions, so that the model sees no edges of invisible content.

    The method is a pyramid of alpha-weighted averages: a transparent pixel takes its colour from the finest level at
    which its surroundings are visible ("push-pull", Gortler et al. 1996, The Lumigraph).

    Args:
        pixels (array): (H, W, C), colours not premultiplied by alpha.
        alpha (array): (H, W), same dtype.

    Returns:
        array: shape and dtype of ``pixels``; unchanged where alpha is at least an eighth of its maximum.
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
    """Return premultiplied colours and alpha as one array (h, w, C + 1) in [0, 1]."""
    weighted = np.empty((*alpha.shape, pixels.shape[2] + 1), np.float32)
    weight = weighted[..., -1:]
    np.divide(alpha[..., None], np.float32(full), out=weight)
    np.multiply(pixels, weight / np.float32(full), out=weighted[..., :-1])
    return weighted


def _halved(x: _Plane) -> _Plane:
    """Average 2x2 pixels. At an odd border, average the pixels that exist."""
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
        share (array): weight of the second neighbour (n,), float32.
    """

    first: NDArray[np.intp]
    second: NDArray[np.intp]
    share: _Plane

    @classmethod
    def between(cls, length: int, targets: NDArray[np.intp], scale: float) -> _Taps:
        """Compute the taps for target pixels that are ``scale`` source pixels wide. Edges are repeated."""
        centres = np.maximum((targets + 0.5) * scale - 0.5, 0)
        first = np.minimum(centres.astype(np.intp), length - 1)
        return cls(first, np.minimum(first + 1, length - 1), (centres - first).astype(np.float32))

    def apply(self, x: _Plane, axis: Literal[0, 1]) -> _Plane:
        """Interpolate an array (h, w, C) along an axis."""
        first = x.take(self.first, axis)
        result: _Plane = x.take(self.second, axis)
        result -= first
        result *= self.share[:, None, None] if axis == 0 else self.share[:, None]
        result += first
        return result


def _interpolated(x: _Plane, rows: _Taps, columns: _Taps) -> _Plane:
    """Interpolate an array (h, w, C) bilinearly at the given rows and columns."""
    top = int(rows.first[0])
    x = x[top : int(rows.second[-1]) + 1]
    across = columns.apply(x, 1)
    return _Taps(rows.first - top, rows.second - top, rows.share).apply(across, 0)


def _filled(weighted: _Plane) -> _Plane:
    """Return colours (h, w, C) without holes from weighted colours and weights (h, w, C + 1), which are overwritten."""
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
    """Upscale alpha with sharp edges.

    Bicubic upscaling is refined by iterative back-projection (Irani & Peleg 1991), so that downscaling the result gives
    the input again. Values are clamped to the range of the neighbouring input pixels: opaque and transparent regions
    stay so, and there is no ringing. Blocks without an edge are filled directly.

    Args:
        alpha (array): (h, w), uint8 or uint16.
        size (tuple): height and width of the result, each at least the input's.

    Returns:
        array: shape ``size``, same dtype.
    """
    result: NDArray[Any] = np.empty(size, alpha.dtype)
    for top in range(0, alpha.shape[0], _BLOCK):
        for left in range(0, alpha.shape[1], _BLOCK):
            _enlarge_block(alpha, result, top, left)
    return result


def _enlarge_block(alpha: Pixels, result: NDArray[Any], top: int, left: int) -> None:
    """Compute one block with a margin around it and write it to the result."""
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
    """A block along one axis: input pixels ``source``, output pixels ``target``, of which ``block`` are kept."""

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
        """Positions of the target pixels in source coordinates (t,)."""
        target = np.arange(self.target.start, self.target.stop)
        centres: NDArray[np.float64] = (target + 0.5) / self.scale - 0.5 - self.source.start
        return centres

    @property
    def nearest(self) -> NDArray[np.intp]:
        """Index of the source pixel that contains each target pixel (t,)."""
        return np.rint(self.centres).astype(np.intp).clip(0, self.source.stop - self.source.start - 1)

    @property
    def enlarging(self) -> _Plane:
        """Cubic interpolation (Keys 1981, a = -1/2) as a matrix (t, s), aligned with the whole image."""
        d = np.abs(self.centres[:, None] - np.arange(self.source.stop - self.source.start))
        near, far = 1.5 * d**3 - 2.5 * d**2 + 1, -0.5 * d**3 + 2.5 * d**2 - 4 * d + 2
        return _normalised(np.where(d < 1, near, np.where(d < 2, far, 0.0)))


def _normalised(matrix: NDArray[Any]) -> _Plane:
    rows: _Plane = (matrix / matrix.sum(1, keepdims=True)).astype(np.float32)
    return rows


def _back_projected(small: _Plane, rows: _Axis, columns: _Axis) -> _Plane:
    """Upscale an array (h, w) with values in [0, 1] by iterative back-projection."""
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
    """Return the minimum or maximum over the 3x3 neighbourhood of each pixel of (h, w)."""
    padded = np.pad(x, 1, mode="edge")
    rows = extreme(extreme(padded[:-2], padded[1:-1]), padded[2:])
    found: _Plane = extreme(extreme(rows[:, :-2], rows[:, 1:-1]), rows[:, 2:])
    return found
