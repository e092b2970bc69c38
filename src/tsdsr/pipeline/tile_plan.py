"""How a result is tiled."""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from tsdsr.errors import InvalidInputError, OutOfMemoryError
from tsdsr.out_of_memory import is_out_of_memory, without_frames
from tsdsr.pipeline.options import SMALLEST_TILE, Tile

if TYPE_CHECKING:
    from tsdsr.models.zoo import ModelSpec

logger = logging.getLogger(__name__)

TILE_SHARE = 0.4
"""Share of free memory for tiles; the rest is for the result and for errors of the estimate."""
_BAND_BYTES = 16
"""Bytes per pixel of a row of tiles: blended float32 values, and those being written to the canvas."""


@dataclass(frozen=True)
class TilePlan:
    """Tiles of one run, in pixels of the enlarged image.

    Attributes:
        tile (int | None): largest edge of a tile; None means untiled.
        overlap (int): overlap of neighbouring tiles.
        batch (int): tiles processed together.
        least (int): smallest edge that tiles may shrink to, to cover the image more evenly.
    """

    tile: int | None = None
    overlap: int = 0
    batch: int = 1
    least: int = 0

    def smaller(self, spec: ModelSpec, size: tuple[int, int]) -> TilePlan | None:
        """Return the next plan after running out of memory: single tiles, then half the edge; None below the smallest.

        Args:
            spec (ModelSpec): the model.
            size (tuple): height and width of the result.
        """
        if self.tile and self.batch > 1:
            return replace(self, batch=1)
        multiple, edge = spec.size_multiple, min(self.tile or max(size), max(size))
        half = edge // 2 // multiple * multiple
        if half < smallest_tile(spec):
            return None
        overlap = min(self.overlap or spec.tile_overlap, half // 2) // multiple * multiple
        return replace(self, tile=half, overlap=overlap, least=min(self.least, half))


def plan_tiles(
    spec: ModelSpec,
    size: tuple[int, int],
    tile: Tile,
    overlap: int | None = None,
    batch: int = 1,
    largest: int | None = None,
) -> TilePlan:
    """Plan tiles for a result of ``size`` (height, width).

    "auto" leaves results up to the model's native area untiled. Larger results get tiles of the model's native size or
    of ``largest``, whichever is smaller.

    Args:
        spec (ModelSpec): the model.
        size (tuple): height and width of the result.
        tile (int | "auto" | None): edge of a tile; None never tiles.
        overlap (int | None): overlap of neighbours; default: the model's, at most a quarter of the tile.
        batch (int): tiles processed together.
        largest (int | None): edge of the largest tile that fits into memory; default: no limit.

    Raises:
        InvalidInputError: tile or overlap is too small, or the overlap exceeds half the tile.
    """
    if batch < 1:
        raise InvalidInputError(f"tile_batch must be at least 1, got {batch}")
    multiple = spec.size_multiple
    edge: int | None
    if tile is None:
        edge = None
    elif tile == "auto":
        edge = min(spec.native_size, largest or spec.native_size)
        if size[0] * size[1] <= edge**2:
            edge = None
    else:
        check_tile(spec, tile)
        edge = tile // multiple * multiple
    if edge is None or max(size) <= edge:
        return TilePlan(batch=batch)
    if overlap is None:
        overlap = min(spec.tile_overlap, edge // 4 // multiple * multiple)
    overlap = math.ceil(overlap / multiple) * multiple
    if not 0 <= overlap <= edge // 2:
        raise InvalidInputError(f"tile_overlap must lie between 0 and half the tile ({edge // 2}), got {overlap}")
    return TilePlan(edge, overlap, batch, min(edge, spec.min_tile))


def next_smaller_plan(error: BaseException, plan: TilePlan, spec: ModelSpec, size: tuple[int, int]) -> TilePlan:
    """Return the plan to try after a run has run out of memory, and log the change.

    Args:
        error (BaseException): exception that ended the run.
        plan (TilePlan): the plan that failed.
        spec (ModelSpec): the model.
        size (tuple): height and width of the result.

    Raises:
        BaseException: ``error`` itself, if it is not a lack of memory.
        OutOfMemoryError: there is no smaller plan.
    """
    if not is_out_of_memory(error):
        raise error
    smaller = plan.smaller(spec, size)
    if smaller is None:
        raise OutOfMemoryError(
            f"out of memory even with tiles of {plan.tile or max(size)} pixels; free memory, load the model in 16 "
            f"bits (--dtype bf16), or choose a smaller scale"
        ) from without_frames(error)
    logger.warning(
        "out of memory with %s; starting again with tiles of %s pixels, %d at a time",
        f"tiles of {plan.tile} pixels, {plan.batch} at a time" if plan.tile else "the whole image at once",
        smaller.tile or "all",
        smaller.batch,
    )
    return smaller


def check_tile(spec: ModelSpec, tile: Tile) -> None:
    """Check that a tile is large enough for a model.

    Raises:
        InvalidInputError: the tile is too small.
    """
    smallest = smallest_tile(spec)
    if tile is not None and tile != "auto" and (not isinstance(tile, int) or tile < smallest):
        raise InvalidInputError(f"tile must be at least {smallest} pixels for {spec.name!r}, got {tile!r}")


def largest_tile(spec: ModelSpec, size: tuple[int, int], free: int, itemsize: int) -> int:
    """Compute the edge of the largest tile that fits into memory: a suitable multiple, at most the native size.

    Args:
        spec (ModelSpec): the model; its ``tile_bytes`` and ``fixed_tile_bytes`` were measured.
        size (tuple): height and width of the result; a band is as long as its shorter side.
        free (int): bytes free on the device.
        itemsize (int): bytes per value in the precision of the network.
    """
    budget = TILE_SHARE * free - spec.fixed_tile_bytes
    pixel = spec.tile_bytes * itemsize / 4
    band = _BAND_BYTES * min(size)
    edge = (math.sqrt(max(0.0, band**2 + 4 * pixel * budget)) - band) / (2 * pixel)  # solves pixel e² + band e = budget
    smallest = smallest_tile(spec)
    return max(smallest, min(spec.native_size, int(edge) // spec.size_multiple * spec.size_multiple))


def smallest_tile(spec: ModelSpec) -> int:
    """Return the edge of the smallest tile worth running."""
    return max(4 * spec.size_multiple, SMALLEST_TILE)
