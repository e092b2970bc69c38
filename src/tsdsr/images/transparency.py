"""Transparency: colours carried on below it for the model, and its enlargement with edges kept."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from tsdsr.images.picture import Pixels, strips

_TRUSTED = 0.125
"""Colours of pixels with at least this alpha are kept as they are; below it they fade into the surrounding ones."""
_STEPS, _BLOCK, _MARGIN = 12, 64, 12


def fill_transparent(pixels: Pixels, alpha: Pixels) -> Pixels:
    """Colours whose transparent parts continue the visible ones, so that a model sees no edge to something invisible.

    A pyramid of averages weighted by alpha: a transparent pixel takes its colour from the finest level at which there
    is anything visible around it ("push-pull", Gortler et al. 1996, The Lumigraph).

    Args:
        pixels (array): (H, W, C), straight colours.
        alpha (array): (H, W), of the same dtype.

    Returns:
        array: like ``pixels``; the same where alpha is at least an eighth.
    """
    full = int(np.iinfo(pixels.dtype).max)
    height, width, channels = pixels.shape
    half = torch.empty(1, channels + 1, (height + 1) // 2, (width + 1) // 2)
    groups = strips(half.shape[2], width * channels * 16)
    for rows in groups:
        part = slice(2 * rows.start, 2 * rows.stop)
        half[..., rows, :] = _halved(_weighted(pixels[part], alpha[part], full))
    filled = _filled(half)
    result = np.empty_like(pixels)
    for rows in groups:
        part = slice(2 * rows.start, min(2 * rows.stop, height))
        if alpha[part].min() >= full * _TRUSTED:
            result[part] = pixels[part]
            continue
        above, below = max(rows.start - 1, 0), min(rows.stop + 1, half.shape[2])
        coarse = F.interpolate(filled[:, :, above:below], scale_factor=2, mode="bilinear")[0]
        around = coarse[:, part.start - 2 * above : part.stop - 2 * above, :width].permute(1, 2, 0).numpy()
        trust = np.minimum(alpha[part, :, None] / np.float32(full * _TRUSTED), 1)
        result[part] = np.rint(pixels[part] * trust + around * full * (1 - trust))
    return result


def _weighted(pixels: Pixels, alpha: Pixels, full: int) -> Tensor:
    """Colours times alpha, and alpha: (1, C + 1, h, w) in [0, 1]."""
    weight = alpha[..., None].astype(np.float32) / full
    stacked = np.concatenate([pixels * (weight / full), weight], axis=-1, dtype=np.float32)
    return torch.from_numpy(stacked).permute(2, 0, 1)[None]


def _halved(x: Tensor) -> Tensor:
    return F.avg_pool2d(x, 2, ceil_mode=True, count_include_pad=False)


def _filled(weighted: Tensor) -> Tensor:
    """Colours (1, C, h, w) without holes from weighted colours and weights (1, C + 1, h, w)."""
    colours, weight = weighted[:, :-1], weighted[:, -1:]
    if max(weighted.shape[-2:]) == 1:
        return colours / weight.clamp_min(1e-6)
    coarse = F.interpolate(_filled(_halved(weighted)), size=weighted.shape[-2:], mode="bilinear")
    return colours + (1 - weight) * coarse


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
    x = _back_projected(torch.from_numpy(part.astype(np.float32) / full), rows, columns).numpy()
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
    def centres(self) -> Tensor:
        """Where the target's pixels lie among the source's (t,)."""
        target = torch.arange(self.target.start, self.target.stop, dtype=torch.float64)
        centres: Tensor = (target + 0.5) / self.scale - 0.5 - self.source.start
        return centres

    @property
    def nearest(self) -> Tensor:
        """The source pixel that each of the target's lies in (t,)."""
        return self.centres.round().long().clamp(0, self.source.stop - self.source.start - 1)

    @property
    def enlarging(self) -> Tensor:
        """Cubic interpolation (Keys 1981, a = -1/2) as a matrix (t, s) on the grid of the whole image."""
        d = (self.centres[:, None] - torch.arange(self.source.stop - self.source.start)).abs()
        near, far = 1.5 * d**3 - 2.5 * d**2 + 1, -0.5 * d**3 + 2.5 * d**2 - 4 * d + 2
        return _normalised(torch.where(d < 1, near, torch.where(d < 2, far, 0.0)))


def _normalised(matrix: Tensor) -> Tensor:
    rows: Tensor = matrix / matrix.sum(1, keepdim=True)
    return rows.float()


def _back_projected(small: Tensor, rows: _Axis, columns: _Axis) -> Tensor:
    """Enlarge (h, w), values in [0, 1]."""
    up_rows, up_columns = rows.enlarging, columns.enlarging
    down_rows, down_columns = _normalised(up_rows.T), _normalised(up_columns.T)
    x = up_rows @ small @ up_columns.T
    for _ in range(_STEPS):
        x = (x + up_rows @ (small - down_rows @ x @ down_columns.T) @ up_columns.T).clamp_(0, 1)
    padded = F.pad(small[None, None], (1, 1, 1, 1), mode="replicate")
    low, high = -F.max_pool2d(-padded, 3, 1)[0, 0], F.max_pool2d(padded, 3, 1)[0, 0]
    ys, xs = rows.nearest, columns.nearest
    return torch.minimum(torch.maximum(x, low[ys][:, xs]), high[ys][:, xs])
