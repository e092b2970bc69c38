"""How large the result is and how it is tiled."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from tsdsr.errors import InvalidInputError
from tsdsr.models.zoo import ModelSpec

Tile = int | Literal["auto"] | None
MAX_SCALE = 8.0
"""The largest enlargement in one run."""


@dataclass(frozen=True)
class TilePlan:
    """Tile sizes of one run, in pixels of the enlarged image.

    Attributes:
        denoiser (int | None): edge of the denoiser's tiles; None means untiled.
        autoencoder (int | None): edge of the autoencoder's tiles.
        overlap (int): overlap of neighbouring tiles, for both.
        batch (int): tiles a call of the denoiser.
    """

    denoiser: int | None
    autoencoder: int | None
    overlap: int
    batch: int


def output_size(height: int, width: int, scale: float, target_size: tuple[int, int] | None) -> tuple[int, int]:
    """Height and width of the result.

    Args:
        height, width (int): the input's.
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
    if not (math.isfinite(scale) and 1 <= scale <= MAX_SCALE):
        raise InvalidInputError(f"scale must lie between 1 and {MAX_SCALE:g}, got {scale:g}")
    return max(1, round(height * scale)), max(1, round(width * scale))


def plan_tiles(
    spec: ModelSpec, size: tuple[int, int], tile: Tile, overlap: int | None = None, batch: int = 1
) -> TilePlan:
    """Decide on tiles for a result of ``size`` (height, width).

    "auto" leaves the denoiser untiled up to the model's native area and the autoencoder up to four times that.

    Raises:
        InvalidInputError: tile or overlap are too small, or the overlap exceeds half the tile.
    """
    area, multiple = size[0] * size[1], spec.size_multiple
    if tile is None:
        return TilePlan(None, None, 0, batch)
    if tile == "auto":
        edge = spec.native_size
        denoiser = edge if area > edge**2 else None
        autoencoder = 2 * edge if area > 4 * edge**2 else None
    else:
        smallest = max(4 * multiple, 64)
        if isinstance(tile, bool) or not isinstance(tile, int) or tile < smallest:
            raise InvalidInputError(
                f"tile must be 'auto', None or at least {smallest} pixels for this model, got {tile!r}"
            )
        edge = denoiser = autoencoder = tile // multiple * multiple
    overlap = edge // 8 if overlap is None else overlap
    overlap = math.ceil(overlap / multiple) * multiple
    if not 0 <= overlap <= edge // 2:
        raise InvalidInputError(f"tile_overlap must lie between 0 and half the tile ({edge // 2}), got {overlap}")
    if batch < 1:
        raise InvalidInputError(f"tile_batch must be at least 1, got {batch}")
    return TilePlan(denoiser, autoencoder, overlap, batch)
