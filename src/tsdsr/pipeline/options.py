"""Options of a restoration and the size of the result.

They are checked before a model is loaded. Importing torch takes seconds, so this module does without.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, TypedDict

from tsdsr.errors import InvalidInputError

Tile = int | Literal["auto"] | None
SMALLEST_TILE = 64
"""Smallest edge of a tile for any model."""
MAX_SCALE = 8.0
"""Largest enlargement in one run."""
ColorFix = Literal["wavelet", "adain", "none"]
COLOR_FIXES: tuple[ColorFix, ...] = ("wavelet", "adain", "none")


class RestoreKeywords(TypedDict, total=False):
    """Keyword arguments: the fields of :class:`RestoreOptions` except the scale."""

    target_size: tuple[int, int] | None
    color_fix: ColorFix
    detail: float
    tile: Tile
    tile_overlap: int | None
    tile_batch: int


@dataclass(frozen=True)
class RestoreOptions:
    """How to restore and enlarge images. Values are checked as far as possible without model and image.

    Attributes:
        scale (float): enlargement from 1 to 8, fractional allowed. Sides are rounded to whole pixels.
        target_size (tuple | None): width and height of the result instead of ``scale``; both sides grow by 1 to 8.
        color_fix ("wavelet" | "adain" | "none"): how to align low frequencies and colour with the input.
        detail (float): share of the step to take, from 0 (most faithful) to 1 (the model as trained), see
            :meth:`tsdsr.models.zoo.ModelSpec.strength`.
        tile (int | "auto" | None): largest edge of a tile in pixels of the result, rounded down to a multiple
            the model needs. "auto" tiles results above the model's native area or the free memory; None tiles only
            when memory runs out.
        tile_overlap (int | None): overlap of neighbouring tiles in pixels; default: the model's.
        tile_batch (int): tiles processed together.

    Raises:
        InvalidInputError: a value is out of range.
    """

    scale: float = 4.0
    target_size: tuple[int, int] | None = None
    color_fix: ColorFix = "wavelet"
    detail: float = 1.0
    tile: Tile = "auto"
    tile_overlap: int | None = None
    tile_batch: int = 1

    def __post_init__(self) -> None:
        if self.target_size is None:
            check_scale(self.scale)
        elif min(self.target_size) < 1:
            raise InvalidInputError(f"target_size is width and height in pixels, got {self.target_size}")
        if self.color_fix not in COLOR_FIXES:
            raise InvalidInputError(f"unknown color_fix {self.color_fix!r}; choose from {', '.join(COLOR_FIXES)}")
        if not 0 <= self.detail <= 1:
            raise InvalidInputError(f"detail must lie in [0, 1], got {self.detail:g}")
        if self.tile is not None and self.tile != "auto":
            if not _is_count(self.tile, 0):
                raise InvalidInputError(f"tile must be 'auto', None or a number of pixels, got {self.tile!r}")
            if self.tile < SMALLEST_TILE:
                raise InvalidInputError(f"tile must be at least {SMALLEST_TILE} pixels, got {self.tile}")
        if self.tile_overlap is not None and not _is_count(self.tile_overlap, 0):
            raise InvalidInputError(f"tile_overlap must be at least 0 pixels, got {self.tile_overlap!r}")
        if not _is_count(self.tile_batch, 1):
            raise InvalidInputError(f"tile_batch must be at least 1, got {self.tile_batch!r}")

    def size(self, height: int, width: int) -> tuple[int, int]:
        """Return height and width of the result for an input of this size.

        Raises:
            InvalidInputError: this input cannot be enlarged to the target size.
        """
        return output_size(height, width, self.scale, self.target_size)


def output_size(height: int, width: int, scale: float, target_size: tuple[int, int] | None) -> tuple[int, int]:
    """Compute height and width of the result.

    Args:
        height, width (int): size of the input.
        scale (float): enlargement, 1 to 8.
        target_size (tuple | None): wanted (width, height); overrides ``scale``.

    Raises:
        InvalidInputError: the enlargement is not within 1 to 8 along both axes.
    """
    if target_size is not None:
        width_out, height_out = target_size
        scales = (width_out / width, height_out / height)
        if not all(1 <= s <= MAX_SCALE for s in scales):
            raise InvalidInputError(
                f"target {width_out}x{height_out} is {min(scales):.3g} to {max(scales):.3g} times the input's "
                f"{width}x{height}; both sides must grow by 1 to {MAX_SCALE:g}"
            )
        return height_out, width_out
    check_scale(scale)
    return max(1, round(height * scale)), max(1, round(width * scale))


def check_scale(scale: float) -> None:
    """Check that images can be enlarged by ``scale``.

    Raises:
        InvalidInputError: ``scale`` is not within 1 to 8.
    """
    if not (math.isfinite(scale) and 1 <= scale <= MAX_SCALE):
        raise InvalidInputError(f"scale must lie between 1 and {MAX_SCALE:g}, got {scale:g}")


def _is_count(value: object, least: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= least
