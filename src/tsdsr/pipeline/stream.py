"""Stream an image as tiles. Memory holds one row of tiles, never the whole enlarged image.

::

    input pixels ─► window enlarged ─► restored ─► blended into a band ─► finished rows ─► colour, rounding ─► canvas
                    └──────────── tile by tile ─────────────┘            └────── block by block ──────┘

:class:`TileStream` yields the windows and receives the restored ones. The caller restores them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from tsdsr.arrays import Array, ArrayDevice, contiguous, namespace, part, transposed
from tsdsr.errors import TSDSRError
from tsdsr.measuring import stage
from tsdsr.pipeline.blending import AxisTiles, BandBlender, grouped
from tsdsr.pipeline.canvas import CANVAS_WRITERS
from tsdsr.pipeline.options import ColorFix
from tsdsr.pipeline.plain_areas import PlainAreas
from tsdsr.pipeline.tile_plan import TilePlan
from tsdsr.pixels import to_unit
from tsdsr.resize import BicubicWindow

Place = tuple[int, int]
"""Row and column of a tile's first pixel in the enlarged image."""


def padded_positions(length: int, multiple: int) -> np.ndarray:
    """Return positions 0 … length - 1, then those that pad the axis to a multiple: mirrored if it is long enough."""
    positions = np.arange(length + -length % multiple)
    mirrored = 2 * (length - 1) - positions if -length % multiple < length else length - 1
    return np.where(positions < length, positions, mirrored)


class EnlargedImage:
    """An image (B, C, h, w) enlarged to ``size`` and padded to multiples. Windows are computed on demand.

    Args:
        pixels (array): uint8, uint16 or floating point in [0, 1]; C = 1 is repeated to three channels.
        size (tuple): height and width.
        multiple (int): the padded sides are multiples of this.
        device (ArrayDevice): computes the windows.
    """

    def __init__(self, pixels: Array, size: tuple[int, int], multiple: int, device: ArrayDevice) -> None:
        self.pixels, self.size, self.multiple, self.device = pixels, size, multiple, device
        self._rows, self._cols = (padded_positions(length, multiple) for length in size)
        self.padded = (len(self._rows), len(self._cols))

    def transposed(self) -> EnlargedImage:
        """Return the image with rows and columns swapped."""
        return EnlargedImage(transposed(self.pixels), self.size[::-1], self.multiple, self.device)

    def window(self, rows: range, cols: range) -> Array:
        """Return a window (B, 3, rows, columns) of the enlarged and padded image, float32 in [0, 1]."""
        y, x = self._rows[rows.start : rows.stop], self._cols[cols.start : cols.stop]
        with stage("enlarge"):
            window = BicubicWindow(y, x, self.pixels.shape[-2:], self.size)
            enlarged = window.enlarge(to_unit(self.device.upload(self.pixels[window.crop])))
        return self._colored(enlarged)

    def _colored(self, x: Array) -> Array:
        return x if x.shape[1] == 3 else self.device.xp.broadcast_to(x, (x.shape[0], 3, *x.shape[2:]))

    def reduced(self, edge: int) -> Array:
        """Reduce the whole image to the area of a tile, (B, 3, h', w'): sides are multiples, proportions about kept.

        Pixels are averaged one row at a time, to avoid a float copy of the input.
        """
        factor = edge / math.sqrt(self.size[0] * self.size[1])
        height, width = (max(1, int(factor * length) // self.multiple) * self.multiple for length in self.size)
        rows, cols = (int(length) for length in self.pixels.shape[-2:])
        if rows <= height and cols <= width:
            small = EnlargedImage(self.pixels, (height, width), self.multiple, self.device)
            return small.window(range(height), range(width))
        return self._colored(self.device.upload(_averaged(_averaged(self.pixels, height, -2), width, -1)))


def _averaged(pixels: Array, count: int, axis: int) -> Array:
    """Average ``count`` evenly spaced parts of an axis that together cover it: float32 in [0, 1]."""
    xp, length = namespace(pixels), pixels.shape[axis]
    parts = (part(pixels, i * length // count, -(-(i + 1) * length // count), axis) for i in range(count))
    return xp.concat([xp.mean(to_unit(piece), axis=axis, keepdims=True) for piece in parts], axis=axis)


@dataclass(frozen=True)
class TileGroup:
    """Tiles that are restored together: neighbours in one row of the grid.

    Attributes:
        windows (array): windows of the enlarged image (N * B, 3, h, w), float32 in [0, 1]: N tiles of B samples each.
        places (list of tuples): position of each of the N tiles in the enlarged image.
        row (int): row of the grid; for a wide image, whose grid is transposed, the column.
        cols (sequence of int): the tiles' positions in that row.
    """

    windows: Array
    places: list[Place]
    row: int
    cols: Sequence[int]


class TileStream:
    """Yield an enlarged image as groups of tiles; blend, colour-align and store the restored tiles in a canvas.

    ::

        tiles = TileStream(image, canvas, plan, color_fix)
        for group in tiles:
            tiles.put(group, restore(group.windows))
        tiles.close()

    Rows of tiles run along the shorter side, because a whole row is held in memory: a wide image is tiled transposed.
    Windows and places refer to the original orientation in either case.

    Args:
        image (EnlargedImage): the image to tile.
        canvas (array): (B, C, H, W), receives the result; has the image's size before padding.
        plan (TilePlan): tiles; if untiled, the padded image is the only window.
        color_fix ("wavelet" | "adain" | "none"): colour alignment.
        on_tile (callable | None): called with (finished, total) tiles.
    """

    def __init__(
        self,
        image: EnlargedImage,
        canvas: Array,
        plan: TilePlan,
        color_fix: ColorFix,
        on_tile: Callable[[int, int], None] | None = None,
    ) -> None:
        self._transposed = plan.tile is not None and canvas.shape[-1] > canvas.shape[-2]
        if self._transposed:
            image, canvas = image.transposed(), transposed(canvas)
        self._rows, self._cols = (
            AxisTiles.plan(length, plan.tile or length, plan.overlap, image.multiple, plan.least)
            for length in image.padded
        )
        self._image, self._batch, self._on_tile = image, plan.batch, on_tile
        self._blender = BandBlender(self._rows, self._cols)
        areas = PlainAreas(image.pixels, image.size, image.device)
        self._writer = CANVAS_WRITERS[color_fix](canvas, image.window, areas, image.device)
        self._done, self._total = 0, len(canvas) * len(self._rows.starts) * len(self._cols.starts)
        self._finite: Array = True

    def __iter__(self) -> Iterator[TileGroup]:
        """Yield the groups, row by row. Call :meth:`put` for each one before requesting the next."""
        for row in range(len(self._rows.starts)):
            for cols in grouped(range(len(self._cols.starts)), self._batch):
                yield self._group(row, cols)

    def _group(self, row: int, cols: Sequence[int]) -> TileGroup:
        height, width = self._rows.tile, self._cols.tile
        places = [(self._rows.starts[row], self._cols.starts[col]) for col in cols]
        tiles = [self._image.window(range(y, y + height), range(x, x + width)) for y, x in places]
        windows = tiles[0] if len(tiles) == 1 else self._image.device.xp.concat(tiles)
        if self._transposed:
            windows, places = transposed(windows), [(x, y) for y, x in places]
        windows = contiguous(windows)
        return TileGroup(windows, places, row, cols)

    def put(self, group: TileGroup, restored: Array) -> None:
        """Add the restored windows of a group, same shape.

        Raises:
            TSDSRError: the row completed by this group contains non-finite values.
        """
        xp, samples = self._image.device.xp, len(restored) // len(group.cols)
        self._finite = self._finite & xp.all(xp.isfinite(restored))
        tiles = transposed(restored) if self._transposed else restored
        with stage("blend"):
            for i, col in enumerate(group.cols):
                self._blender.add(group.row, col, tiles[i * samples : (i + 1) * samples])
        self._done += len(restored)
        if self._on_tile:
            self._on_tile(self._done, self._total)
        if group.cols[-1] + 1 == len(self._cols.starts):
            self._finish(group.row)

    def _finish(self, row: int) -> None:
        """Write the pixels that later rows of tiles do not change."""
        if not bool(self._finite):  # checked once per row, so that a GPU can work ahead
            raise TSDSRError("the model produced values that are not finite; try bfloat16 or float32")
        height, width = self._image.size
        self._writer.push(self._blender.finish(row)[..., : height - self._rows.starts[row], :width])

    def close(self) -> None:
        """Finish after the last group; the canvas is complete when this returns."""
        self._writer.close()
