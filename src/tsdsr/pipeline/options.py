"""Options of a restoration and the size of the result.

They are checked before a model is loaded. This module does not import torch, which takes seconds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Literal, TypedDict

from tsdsr.errors import InvalidInputError

Tile = int | Literal["auto"] | None
SMALLEST_TILE = 64
"""Smallest edge of a tile for any model."""
MAX_SCALE = 8.0
"""Largest enlargement in one run."""
_LARGEST_SEED = 2**64 - 1
Fit = Literal["contain", "cover", "stretch"]
FITS: tuple[Fit, ...] = ("contain", "cover", "stretch")
"""Ways to meet a target size of another aspect."""
ColorFix = Literal["wavelet", "adain", "none"]
COLOR_FIXES: tuple[ColorFix, ...] = ("wavelet", "adain", "none")


class RestoreKeywords(TypedDict, total=False):
    """Keyword arguments: the fields of :class:`RestoreOptions` except the scale."""

    target_size: tuple[int, int] | None
    fit: Fit
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
        fit ("contain" | "cover" | "stretch"): what to do if the target has another aspect ratio. "contain" stays within
            the target; "cover" fills it and crops the excess equally on both sides; "stretch" distorts.
        color_fix ("wavelet" | "adain" | "none"): how to match low frequencies and colour to the input. With "wavelet"
            and "adain", flat and grey areas of the input stay flat and grey. "none" leaves the model's output
            unchanged.
        detail (float): share of the step to take, from 0 (most faithful) to 1 (the model as trained), see
            :meth:`tsdsr.models.zoo.ModelSpec.strength`.
        tile (int | "auto" | None): largest edge of a tile in pixels of the result, rounded down to a multiple the model
            needs. "auto" tiles results that exceed the model's native area or the free memory; None tiles only when
            memory runs out.
        tile_overlap (int | None): overlap of neighbouring tiles in pixels; default: the model's.
        tile_batch (int): tiles processed together.

    Raises:
        InvalidInputError: a value is out of range.
    """

    scale: float = 4.0
    target_size: tuple[int, int] | None = None
    fit: Fit = "contain"
    color_fix: ColorFix = "wavelet"
    detail: float = 1.0
    tile: Tile = "auto"
    tile_overlap: int | None = None
    tile_batch: int = 1

    def __post_init__(self) -> None:
        if self.target_size is None:
            check_scale(self.scale)
        else:
            _check_target(self.target_size)
        _check_choice("fit", self.fit, FITS)
        _check_choice("color_fix", self.color_fix, COLOR_FIXES)
        if not _is_number(self.detail) or not 0 <= self.detail <= 1:
            raise InvalidInputError(f"detail must lie in [0, 1], got {self.detail!r}")
        if self.tile is not None and self.tile != "auto":
            if not is_count(self.tile, 0):
                raise InvalidInputError(f"tile must be 'auto', None or a number of pixels, got {self.tile!r}")
            if self.tile < SMALLEST_TILE:
                raise InvalidInputError(f"tile must be at least {SMALLEST_TILE} pixels, got {self.tile}")
        if self.tile_overlap is not None and not is_count(self.tile_overlap, 0):
            raise InvalidInputError(f"tile_overlap must be at least 0 pixels, got {self.tile_overlap!r}")
        if not is_count(self.tile_batch, 1):
            raise InvalidInputError(f"tile_batch must be at least 1, got {self.tile_batch!r}")
        self._as_plain_numbers()

    def _as_plain_numbers(self) -> None:
        """Convert numbers of NumPy and other types, which neither torch nor JSON takes everywhere."""
        kinds = {"scale": float, "detail": float, "tile": int, "tile_overlap": int, "tile_batch": int}
        for name, kind in kinds.items():
            value = getattr(self, name)
            if _is_number(value):
                object.__setattr__(self, name, kind(value))
        if self.target_size is not None:
            object.__setattr__(self, "target_size", tuple(int(side) for side in self.target_size))

    def size(self, height: int, width: int) -> tuple[int, int]:
        """Return height and width of the result for an input of this size.

        Raises:
            InvalidInputError: this input cannot be enlarged to the target size.
        """
        return output_size(height, width, self.scale, self.target_size, self.fit)

    def visible(self, height: int, width: int) -> tuple[slice, slice]:
        """Return the rows and columns of an input of this size that the result shows, see :func:`visible_part`."""
        return visible_part(height, width, self.target_size, self.fit)


def output_size(
    height: int, width: int, scale: float, target_size: tuple[int, int] | None, fit: Fit = "contain"
) -> tuple[int, int]:
    """Compute height and width of the result.

    Args:
        height, width (int): size of the input.
        scale (float): enlargement, 1 to 8.
        target_size (tuple | None): wanted (width, height); overrides ``scale``.
        fit ("contain" | "cover" | "stretch"): see :class:`RestoreOptions`.

    Raises:
        InvalidInputError: the enlargement is not within 1 to 8 along both axes.
    """
    if target_size is None:
        check_scale(scale)
        return max(1, round(height * scale)), max(1, round(width * scale))
    width_out, height_out = target_size
    scales = (width_out / width, height_out / height)
    applied = {"contain": [min(scales)], "cover": [max(scales)], "stretch": list(scales)}[fit]
    if not all(1 <= s <= MAX_SCALE for s in applied):
        raise InvalidInputError(
            f"target {width_out}x{height_out} is {min(scales):.3g} to {max(scales):.3g} times the input's "
            f"{width}x{height}; both sides must grow by 1 to {MAX_SCALE:g} ({fit})"
        )
    if fit == "contain":
        return max(1, round(height * applied[0])), max(1, round(width * applied[0]))
    return height_out, width_out


def visible_part(
    height: int, width: int, target_size: tuple[int, int] | None, fit: Fit = "contain"
) -> tuple[slice, slice]:
    """Return the rows and columns of the input that the result shows.

    All of them, unless "cover" crops the longer side centrally to the target's aspect, to the closest whole pixel.

    Args: see :func:`output_size`.
    """
    if target_size is None or fit != "cover":
        return slice(0, height), slice(0, width)
    scale = max(target_size[0] / width, target_size[1] / height)
    return _centre(height, target_size[1] / scale), _centre(width, target_size[0] / scale)


def _centre(length: int, wanted: float) -> slice:
    """Return the middle of a side, ``wanted`` pixels long."""
    kept = min(length, max(1, round(wanted)))
    start = (length - kept) // 2
    return slice(start, start + kept)


def check_scale(scale: float) -> None:
    """Check that images can be enlarged by ``scale``.

    Raises:
        InvalidInputError: ``scale`` is not within 1 to 8.
    """
    number = _is_number(scale)
    if not number or not 1 <= scale <= MAX_SCALE:  # not a number, NaN, is in no range
        got = f"{scale:g}" if number else repr(scale)
        raise InvalidInputError(f"scale must lie between 1 and {MAX_SCALE:g}, got {got}")


def check_seed(seed: object) -> None:
    """Check that a seed is None or one that PyTorch takes.

    Raises:
        InvalidInputError: it is not.
    """
    if seed is not None and not (is_count(seed, 0) and seed <= _LARGEST_SEED):  # type: ignore[operator]
        raise InvalidInputError(f"seed must be a whole number from 0 to 2**64 - 1, got {seed!r}")


def is_count(value: object, least: int) -> bool:
    """Return whether a value is an integer of at least ``least``; True and False are none."""
    return isinstance(value, Integral) and not isinstance(value, bool) and int(value) >= least


def _is_number(value: object) -> bool:
    """Return whether a value is a real number; True and False are none."""
    return isinstance(value, Real) and not isinstance(value, bool)


def _check_target(size: object) -> None:
    if not isinstance(size, tuple | list) or len(size) != 2 or not all(is_count(side, 1) for side in size):
        raise InvalidInputError(f"target_size is width and height in pixels, two whole numbers, got {size!r}")


def _check_choice(name: str, value: object, choices: Sequence[str]) -> None:
    if not isinstance(value, str) or value not in choices:
        raise InvalidInputError(f"unknown {name} {value!r}; choose from {', '.join(choices)}")
