"""A photograph in memory with everything its file said about it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from tsdsr.errors import InvalidInputError

Pixels = NDArray[Any]
"""Samples of uint8 or uint16."""


@dataclass(frozen=True)
class Metadata:
    """What a file says about its pixels.

    Attributes:
        exif (bytes | None): the EXIF block, from its TIFF header on.
        icc (bytes | None): the ICC profile that the pixels' values belong to; None is understood as sRGB.
        xmp (bytes | None): the XMP packet.
        dpi (tuple | None): horizontal and vertical pixels an inch.
    """

    exif: bytes | None = None
    icc: bytes | None = None
    xmp: bytes | None = None
    dpi: tuple[float, float] | None = None


@dataclass(frozen=True, eq=False)
class Picture:
    """An upright photograph of 8 or 16 bits.

    Attributes:
        pixels (array): (H, W, 3) RGB or (H, W, 1) grey, uint8 or uint16; colours are not multiplied by alpha.
        alpha (array | None): (H, W), of the same dtype; 0 is transparent, the dtype's largest value opaque.
        metadata (Metadata): the file's.
        notices (tuple of str): what had to be converted or left out so far, for the user to know.

    Raises:
        InvalidInputError: shapes or dtypes are others.
    """

    pixels: Pixels
    alpha: Pixels | None = None
    metadata: Metadata = field(default_factory=Metadata)
    notices: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        pixels, alpha = self.pixels, self.alpha
        if (
            pixels.dtype not in (np.uint8, np.uint16)
            or pixels.ndim != 3
            or pixels.shape[2] not in (1, 3)
            or not pixels.size
        ):
            raise InvalidInputError(
                f"pixels are (H, W, 1 or 3) of uint8 or uint16 and not empty, got {pixels.shape} of {pixels.dtype}"
            )
        if alpha is not None and (alpha.dtype != pixels.dtype or alpha.shape != pixels.shape[:2]):
            raise InvalidInputError(
                f"alpha is (H, W) like the pixels {pixels.shape} of {pixels.dtype}, got {alpha.shape} of {alpha.dtype}"
            )

    @property
    def width(self) -> int:
        """Columns."""
        return int(self.pixels.shape[1])

    @property
    def height(self) -> int:
        """Rows."""
        return int(self.pixels.shape[0])

    @property
    def grey(self) -> bool:
        """Whether there is one channel rather than three."""
        return bool(self.pixels.shape[2] == 1)

    @property
    def max_value(self) -> int:
        """The largest value, 255 or 65535: white, or opaque."""
        return int(np.iinfo(self.pixels.dtype).max)

    def to_rgb(self) -> NDArray[np.uint8]:
        """8-bit RGB (H, W, 3), transparency on white: for code that knows nothing else."""
        pixels = to_8_bits(flattened(self.pixels, self.alpha))
        return np.repeat(pixels, 3, axis=2) if self.grey else pixels

    def to_image(self) -> Image.Image:
        """:meth:`to_rgb` as a Pillow image."""
        return Image.fromarray(self.to_rgb())


def strips(height: int, row_bytes: int, strip_bytes: int = 1 << 21) -> list[slice]:
    """Rows in groups of about ``strip_bytes``: conversions go strip by strip, so that no second canvas is needed."""
    rows = max(1, strip_bytes // max(1, row_bytes))
    return [slice(top, min(top + rows, height)) for top in range(0, height, rows)]


def to_8_bits(values: Pixels) -> NDArray[np.uint8]:
    """16 bits rounded to the nearest of 8; 8 bits as they are."""
    if values.dtype == np.uint8:
        return values
    result = np.empty(values.shape, np.uint8)
    for rows in strips(len(values), values[:1].nbytes):
        result[rows] = (values[rows].astype(np.uint32) + 128) // 257
    return result


def flattened(pixels: Pixels, alpha: Pixels | None) -> Pixels:
    """Colours (H, W, C) on white."""
    full = int(np.iinfo(pixels.dtype).max)
    if alpha is None or int(alpha.min()) == full:
        return pixels
    result = np.empty_like(pixels)
    for rows in strips(len(pixels), pixels[:1].nbytes):
        part = alpha[rows, :, None].astype(np.uint64)
        result[rows] = (pixels[rows] * part + full * (full - part) + full // 2) // full
    return result
