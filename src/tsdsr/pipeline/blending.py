"""Split an image or latent into overlapping tiles and blend the results. Independent of any model.

Along one axis and towards each neighbour, a tile's weight is zero over the outer quarter of the overlap, a smooth ramp
over the middle half, and one inside. At the image border it stays one. The zero margin makes tiling *exact* for a model
whose output depends on a neighbourhood no wider than a quarter of the overlap: values affected by the tile's edge are
not used. Weights are symmetric and, because the grid is separable, normalised per axis: they sum to one at every
position, so no canvas of weight sums is needed.

::

    weight  1 ─────╮           ╭─────
                    ╲         ╱
                     ╲       ╱            overlap o:  | o/4 zero | o/2 ramp | o/4 one |
            0 ────────╰─────╯────────
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from tsdsr.arrays import Array, add_product, beside, namespace, new_zeros
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
    def plan(cls, length: int, tile: int, overlap: int, multiple: int = 1, least: int | None = None) -> AxisTiles:
        """Cover ``length`` with the fewest tiles, evenly spaced and as small as possible.

        Args:
            length (int): extent of the axis, a multiple of ``multiple``.
            tile (int): largest extent of a tile, a multiple of ``multiple``.
            overlap (int): smallest overlap of neighbours, less than ``tile``.
            multiple (int): tiles start and end at multiples of this.
            least (int | None): smallest extent that tiles may shrink to; by default they do not shrink.

        Raises:
            InvalidInputError: an argument violates these conditions.
        """
        if length % multiple or tile % multiple or tile < 1 or multiple < 1:
            raise InvalidInputError(f"length {length} and tile {tile} must be positive multiples of {multiple}")
        if length <= tile:
            return cls(length, length, (0,), overlap)
        # Starts are rounded down to multiples. The stride is a multiple too, so no overlap becomes smaller.
        stride = (tile - overlap) // multiple * multiple
        if overlap < 0 or stride < 1:
            raise InvalidInputError(f"overlap {overlap} must be smaller than tile {tile} by {multiple} or more")
        count = 1 + math.ceil((length - tile) / stride)
        even = math.ceil((length + (count - 1) * (tile - stride)) / count / multiple) * multiple
        tile = min(tile, max(even, tile if least is None else least))
        starts = tuple((i * (length - tile) // (count - 1)) // multiple * multiple for i in range(count))
        return cls(length, tile, starts, overlap)

    def weights(self) -> list[np.ndarray]:
        """Compute the normalised blending weights of each tile, float32, shape (tile,)."""
        tile, length, starts = self.tile, self.length, self.starts
        raw = []
        for i, start in enumerate(starts):
            left = starts[i - 1] + tile - start if i else 0
            right = start + tile - starts[i + 1] if i + 1 < len(starts) else 0
            raw.append(_ramp(tile, left, right))
        total = np.zeros(length)
        for start, weight in zip(starts, raw, strict=True):
            total[start : start + tile] += weight
        return [(w / total[s : s + tile]).astype(np.float32) for s, w in zip(starts, raw, strict=True)]


def _ramp(tile: int, left: int, right: int) -> np.ndarray:
    """Unnormalised weights (tile,), float64: raised cosine over the middle half of each overlap, zero outside it."""
    position = np.arange(tile) + 0.5
    weight = np.ones(tile)
    for overlap, distance in ((left, position), (right, tile - position)):
        if overlap:
            progress = ((distance - overlap / 4) / (overlap / 2)).clip(0, 1)
            weight *= 0.5 - 0.5 * np.cos(math.pi * progress)
    return weight


class BandBlender:
    """Blend tiles that arrive row by row. Holds one row of tiles in float32.

    Args:
        rows, cols (AxisTiles): the grid.
    """

    def __init__(self, rows: AxisTiles, cols: AxisTiles) -> None:
        self.row_weights, self.col_weights = rows.weights(), cols.weights()
        self.tops, self.lefts, self.width = rows.starts, cols.starts, cols.length
        self._band: Array | None = None
        self._carry: Array | None = None  # overlap of the finished row of tiles with the next

    def add(self, row: int, col: int, tile: Array) -> None:
        """Add the tile (B, C, h, w) of a grid position to the current row. It is not changed."""
        xp = namespace(tile)
        tile = xp.astype(tile, xp.float32, copy=False)
        if len(self.tops) == len(self.lefts) == 1:
            self._band = tile
            return
        if self._band is None:
            self._band = new_zeros(tile, (*tile.shape[:-1], self.width))
            if self._carry is not None:
                self._band[..., : self._carry.shape[-2], :] = self._carry
        weight = beside(self.row_weights[row], tile)[:, None] * beside(self.col_weights[col], tile)
        left = self.lefts[col]
        add_product(self._band[..., left : left + weight.shape[1]], tile, weight)

    def finish(self, row: int) -> Array:
        """Return the positions (B, C, n, W) that later rows of tiles do not change. Call when ``row`` is complete."""
        assert self._band is not None
        band, self._band = self._band, None
        if row + 1 == len(self.tops):
            return band
        finished = self.tops[row + 1] - self.tops[row]
        self._carry = namespace(band).asarray(band[..., finished:, :], copy=True)
        return band[..., :finished, :]


def grouped(items: Sequence[int], size: int) -> Iterator[Sequence[int]]:
    """Yield consecutive groups of ``size`` items; the last may be shorter."""
    for start in range(0, len(items), size):
        yield items[start : start + size]
