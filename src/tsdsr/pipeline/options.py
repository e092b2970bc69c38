"""Options of a restoration, checked before a model is loaded."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypedDict

from tsdsr.errors import InvalidInputError
from tsdsr.pipeline.color import COLOR_FIXES, ColorFix
from tsdsr.pipeline.tile_plan import SMALLEST_TILE, Tile, check_scale, output_size


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


def _is_count(value: object, least: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= least
