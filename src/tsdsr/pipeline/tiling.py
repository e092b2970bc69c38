"""Splitting an image or latent into overlapping tiles and blending the results. Knows no model.

A tile's weight along one axis is, towards each neighbour, zero over the outer quarter of the overlap, a smooth ramp
over the middle half, and one inside; at the image's border it stays one. The zero margin is what makes tiling *exact*
for a model whose output depends on a neighbourhood no wider than a quarter of the overlap: values that saw the tile's
edge are not used. Weights are symmetric and, since the grid is separable, are normalised per axis: they sum to one at
every position, so no canvas of weight sums is needed.

::

    weight  1 ─────╮           ╭─────
                    ╲         ╱
                     ╲       ╱            overlap o:  | o/4 zero | o/2 ramp | o/4 one |
            0 ────────╰─────╯────────
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from tsdsr.errors import InvalidInputError


@dataclass(frozen=True)
class AxisTiles:
    """Tiles along one axis.

    Attributes:
        length (int): extent of the axis.
        tile (int): extent of each tile, at most ``length``.
        starts (tuple of int): first position of each tile, increasing; the last tile ends at ``length``.
        overlap (int): smallest overlap of neighbours.
    """

    length: int
    tile: int
    starts: tuple[int, ...]
    overlap: int

    @classmethod
    def plan(cls, length: int, tile: int, overlap: int, multiple: int = 1) -> AxisTiles:
        """Cover ``length`` with the fewest tiles, spread evenly.

        Args:
            length (int): extent of the axis, a multiple of ``multiple``.
            tile (int): wanted extent of a tile, a multiple of ``multiple``.
            overlap (int): smallest overlap of neighbours, less than ``tile``.
            multiple (int): tiles start at multiples of this.

        Raises:
            InvalidInputError: the numbers do not satisfy the above.
        """
        if length % multiple or tile % multiple or tile < 1 or multiple < 1:
            raise InvalidInputError(f"length {length} and tile {tile} must be positive multiples of {multiple}")
        if length <= tile:
            return cls(length, length, (0,), overlap)
        # Starts are rounded down to multiples; with a stride that is one itself, no overlap comes out smaller.
        stride = (tile - overlap) // multiple * multiple
        if overlap < 0 or stride < 1:
            raise InvalidInputError(f"overlap {overlap} must be smaller than tile {tile} by {multiple} or more")
        count = 1 + math.ceil((length - tile) / stride)
        starts = tuple((i * (length - tile) // (count - 1)) // multiple * multiple for i in range(count))
        return cls(length, tile, starts, overlap)

    def weights(self, scale_num: int = 1, scale_den: int = 1) -> list[Tensor]:
        """Normalised blending weights of each tile, float32, shape (tile * scale_num / scale_den,)."""
        tile, length = (v * scale_num // scale_den for v in (self.tile, self.length))
        starts = [s * scale_num // scale_den for s in self.starts]
        raw = []
        for i, start in enumerate(starts):
            left = starts[i - 1] + tile - start if i else 0
            right = start + tile - starts[i + 1] if i + 1 < len(starts) else 0
            raw.append(_ramp(tile, left, right))
        total = torch.zeros(length, dtype=torch.float64)
        for start, weight in zip(starts, raw, strict=True):
            total[start : start + tile] += weight
        return [(w / total[s : s + tile]).float() for s, w in zip(starts, raw, strict=True)]


def _ramp(tile: int, left: int, right: int) -> Tensor:
    """Unnormalised weights (tile,), float64: raised cosine over the middle half of each overlap, zero outside it."""
    position = torch.arange(tile, dtype=torch.float64) + 0.5
    weight = torch.ones(tile, dtype=torch.float64)
    for overlap, distance in ((left, position), (right, tile - position)):
        if overlap:
            progress = ((distance - overlap / 4) / (overlap / 2)).clamp(0, 1)
            weight *= 0.5 - 0.5 * torch.cos(math.pi * progress)
    return weight


def tiled_apply(
    function: Callable[[Tensor], Tensor],
    x: Tensor,
    *,
    tile: int | None,
    overlap: int,
    multiple: int = 1,
    scale: tuple[int, int] = (1, 1),
    batch: int = 1,
    on_tile: Callable[[int, int], None] | None = None,
) -> Tensor:
    """Apply ``function`` tile by tile and blend the results.

    When ``tile`` is None or ``x`` fits into one tile, the function is called once, on ``x`` itself.

    Args:
        function (callable): maps (N, C, h, w) to (N, C', h * scale, w * scale), samples independent of each other.
        x (Tensor): shape (B, C, H, W).
        tile (int | None): edge of a tile in ``x``'s positions.
        overlap (int): smallest overlap of neighbouring tiles, in ``x``'s positions.
        multiple (int): tiles begin at multiples of this, and H, W and ``tile`` are multiples of it.
        scale (tuple): numerator and denominator of output over input size, e.g. (8, 1) or (1, 8).
        batch (int): tiles a call.
        on_tile (callable | None): called with (finished, total) after each call.

    Returns:
        Tensor: shape (B, C', H * scale, W * scale), in the dtype of the function's result.

    Raises:
        InvalidInputError: impossible combination of sizes.
    """
    if tile is None or max(x.shape[-2:]) <= tile:
        result = function(x)
        if on_tile:
            on_tile(len(x), len(x))
        return result
    num, den = scale
    rows = AxisTiles.plan(x.shape[-2], tile, overlap, max(multiple, den))
    cols = AxisTiles.plan(x.shape[-1], tile, overlap, max(multiple, den))
    total = len(rows.starts) * len(cols.starts) * len(x)
    row_weights, col_weights = rows.weights(num, den), cols.weights(num, den)
    canvas: Tensor | None = None
    dtype, done = x.dtype, 0
    for group in _grouped(_jobs(len(x), rows, cols), max(1, batch)):
        tiles = torch.stack([x[b, :, y : y + rows.tile, z : z + cols.tile] for b, _, y, _, z in group])
        results = function(tiles)
        dtype = results.dtype
        if canvas is None:
            height, width = x.shape[-2] * num // den, x.shape[-1] * num // den
            canvas = torch.zeros(len(x), results.shape[1], height, width, device=x.device, dtype=torch.float32)
        for result, (b, i, y, j, z) in zip(results, group, strict=True):
            weight = torch.outer(row_weights[i], col_weights[j]).to(x.device)
            top, left = y * num // den, z * num // den
            canvas[b, :, top : top + weight.shape[0], left : left + weight.shape[1]] += result.float() * weight
        done += len(group)
        if on_tile:
            on_tile(done, total)
    assert canvas is not None
    return canvas.to(dtype)


_Job = tuple[int, int, int, int, int]  # sample, row number, row start, column number, column start


def _jobs(samples: int, rows: AxisTiles, cols: AxisTiles) -> Iterator[_Job]:
    for b in range(samples):
        for i, y in enumerate(rows.starts):
            for j, z in enumerate(cols.starts):
                yield b, i, y, j, z


def _grouped(jobs: Iterator[_Job], size: int) -> Iterator[list[_Job]]:
    group: list[_Job] = []
    for job in jobs:
        group.append(job)
        if len(group) == size:
            yield group
            group = []
    if group:
        yield group
