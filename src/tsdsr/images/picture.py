"""An image in memory, with its transparency and metadata."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from tsdsr.errors import ImageReadError, InvalidInputError
from tsdsr.images.color_spaces import ColorSpace

Pixels = NDArray[Any]
"""Samples of uint8 or uint16."""


@dataclass(frozen=True)
class Metadata:
    """Metadata of an image file.

    Attributes:
        exif (bytes | None): the EXIF block, starting at its TIFF header.
        icc (bytes | None): the ICC profile of the pixel values; None means sRGB, unless ``hdr`` is set.
        xmp (bytes | None): the XMP packet.
        dpi (tuple | None): horizontal and vertical pixels per inch.
        hdr (ColorSpace | None): the colour space of high dynamic range values (PQ or HLG). No result can store them;
            :func:`tsdsr.images.icc.to_srgb` converts them.
    """

    exif: bytes | None = None
    icc: bytes | None = None
    xmp: bytes | None = None
    dpi: tuple[float, float] | None = None
    hdr: ColorSpace | None = None


@dataclass(frozen=True, eq=False)
class Picture:
    """An upright image with 8 or 16 bits per sample.

    Attributes:
        pixels (array): (H, W, 3) RGB or (H, W, 1) grey, uint8 or uint16, not premultiplied by alpha.
        alpha (array | None): (H, W), same dtype; 0 is transparent, the largest value of the dtype is opaque.
        metadata (Metadata): metadata of the file.
        notices (tuple of str): messages for the user about data that was converted or dropped.

    Raises:
        InvalidInputError: A shape or dtype differs from the above.
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
        """Width in pixels."""
        return int(self.pixels.shape[1])

    @property
    def height(self) -> int:
        """Height in pixels."""
        return int(self.pixels.shape[0])

    @property
    def grey(self) -> bool:
        """Whether the picture has one channel instead of three."""
        return bool(self.pixels.shape[2] == 1)

    @property
    def max_value(self) -> int:
        """The largest sample value, 255 or 65535: white, or opaque."""
        return int(np.iinfo(self.pixels.dtype).max)

    def check_range(self) -> None:
        """Check that the values have standard dynamic range, which models and formats expect.

        Raises:
            ImageReadError: The picture has high dynamic range.
        """
        if self.metadata.hdr is not None:
            raise ImageReadError(
                f"has high dynamic range ({self.metadata.hdr.hdr}, {self.metadata.hdr.name}); "
                "convert it to sRGB with 'tsdsr upscale --icc srgb', in Python with icc='srgb'"
            )

    def to_rgb(self) -> NDArray[np.uint8]:
        """Convert to 8-bit RGB (H, W, 3), with transparency flattened onto white.

        Raises:
            ImageReadError: as :meth:`check_range`.
        """
        self.check_range()
        pixels = to_8_bits(flattened(self.pixels, self.alpha))
        return np.repeat(pixels, 3, axis=2) if self.grey else pixels

    def to_image(self) -> Image.Image:
        """Convert to an 8-bit RGB Pillow image, see :meth:`to_rgb`."""
        return Image.fromarray(self.to_rgb())


def strips(height: int, row_bytes: int, strip_bytes: int = 1 << 21) -> list[slice]:
    """Split rows into strips of about ``strip_bytes``, so that conversions need no second full-size array."""
    rows = max(1, strip_bytes // max(1, row_bytes))
    return [slice(top, min(top + rows, height)) for top in range(0, height, rows)]


def to_8_bits(values: Pixels) -> NDArray[np.uint8]:
    """Round 16-bit values to 8 bits; return 8-bit values unchanged."""
    if values.dtype == np.uint8:
        return values
    result = np.empty(values.shape, np.uint8)
    for rows in strips(len(values), values[:1].nbytes):
        result[rows] = (values[rows].astype(np.uint32) + 128) // 257
    return result


def flattened(pixels: Pixels, alpha: Pixels | None) -> Pixels:
    """Composite colours (H, W, C) onto white."""
    full = int(np.iinfo(pixels.dtype).max)
    if alpha is None or int(alpha.min()) == full:
        return pixels
    result = np.empty_like(pixels)
    for rows in strips(len(pixels), pixels[:1].nbytes):
        part = alpha[rows, :, None].astype(np.uint64)
        result[rows] = (pixels[rows] * part + full * (full - part) + full // 2) // full
    return result
