"""Reading of 16-bit PNG and TIFF at full depth.

Pillow has no 16-bit colour modes and keeps one byte of each sample: the high byte if it decodes with the file's byte
order, the low byte if it decodes with the opposite one. Decoding twice, once per byte order, gives all 16 bits, with
Pillow's speed, checks and format support (interlaced PNG, LZW, tiles). Pillow supports 16-bit grey directly. tifffile
reads the two TIFF layouts that Pillow does not support: grey with alpha, and separate planes.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from PIL import Image, ImageFile

from tsdsr.errors import ImageReadError
from tsdsr.images.encoded import EncodedImage
from tsdsr.images.picture import Pixels, strips

_DIRECTORIES = (0x8769, 0x8825)
_BITS, _PHOTOMETRIC, _ORIENTATION, _SAMPLES, _PLANES, _EXTRA = 258, 262, 274, 277, 284, 338
_WHITE_IS_ZERO, _ASSOCIATED, _APART = 0, 1, 2
_LITTLE = sys.byteorder == "little"


def is_16_bit(image: Image.Image) -> bool:
    """Return whether an opened image has more than 8 bits per sample and :func:`read_16_bit` can read it."""
    if image.mode.startswith("I;16"):
        return True
    if image.format == "TIFF":
        return image.mode in ("RGB", "RGBA") and set(_tags(image).get(_BITS, (8,))) == {16}
    return image.format == "PNG" and _layout(image).endswith(";16B")


def has_planes_apart(image: Image.Image) -> bool:
    """Return whether an opened 16-bit image is a TIFF with separate planes."""
    return image.format == "TIFF" and image.mode != "I;16" and _tags(image).get(_PLANES) == _APART


def read_16_bit(file: EncodedImage, image: Image.Image) -> Pixels:
    """Read the samples (H, W, C) of a 16-bit PNG or TIFF, C = 1 to 4, in the orientation in which Pillow loads it.

    Args:
        file (EncodedImage): the file.
        image (PIL image): the same file, opened; this function loads it.
    """
    if image.mode.startswith("I;16"):
        return _grey(image)
    if image.format == "TIFF":
        four = _tags(image).get(_SAMPLES) == 4
        associated = _ASSOCIATED in _tags(image).get(_EXTRA, ())
        layout = "RGBX" if four and image.mode == "RGB" else image.mode
        # libtiff returns samples in native byte order; Pillow's own reader of plain strips keeps the file's.
        little = _LITTLE if image.tile[0][0] == "libtiff" else _tags(image).prefix == b"II"  # type: ignore[attr-defined]
        high, low = ("L", "B") if little else ("B", "L")
        samples = _two_passes(file, image, f"{layout};16{high}", f"{layout};16{low}")
        return unmultiplied(samples) if associated and image.mode == "RGBA" else samples
    if _layout(image) == "LA;16B":  # four bytes per pixel, as in RGBA
        _load(image, "RGBA")
        samples = np.empty((image.height, image.width, 2), np.uint16)
        for rows in strips(image.height, image.width * 4):
            samples[rows] = _strip(image, rows).view(">u2")
        return samples
    return _two_passes(file, image, f"{image.mode};16B", f"{image.mode};16L")


def read_uncommon_tiff(file: EncodedImage, check_size: Callable[[int, int], None]) -> tuple[Pixels, Image.Exif]:
    """Read a 16-bit TIFF that Pillow does not support: grey with alpha, or separate planes.

    Args:
        file (EncodedImage): the file.
        check_size (callable): called with width and height before decoding; raises if the size is not acceptable.

    Returns:
        tuple: samples (H, W, C), not rotated, and all tags.

    Raises:
        ImageReadError: The TIFF is of any other kind.
    """
    import tifffile

    with _silent("tifffile"), tifffile.TiffFile(file.source()) as tiff:
        page: Any = tiff.pages.first
        colours = {tifffile.PHOTOMETRIC.MINISBLACK: 1, tifffile.PHOTOMETRIC.RGB: 3}.get(page.photometric)
        extra = [int(kind) for kind in page.extrasamples]
        plain = page.dtype == np.uint16 and page.imagedepth == 1 and len(extra) < 2
        if colours is None or not plain or len(tiff.pages) > 1:
            raise ImageReadError(f"{file.name}: is a TIFF of a kind that is not supported")
        check_size(page.imagewidth, page.imagelength)
        samples = page.asarray().reshape(page.shape if page.ndim == 3 else (*page.shape, 1))
        if page.planarconfig == _APART and page.ndim == 3:
            samples = np.moveaxis(samples, 0, -1)
    with file.stream() as stream:
        tags = Image.Exif()
        tags.load_from_fp(stream)
        for group in _DIRECTORIES:  # Pillow reads these lazily, so the file must still be open
            if group in tags:
                tags.get_ifd(group)
    return unmultiplied(samples) if extra == [_ASSOCIATED] else samples, tags


def uncommon_tiff_size(file: EncodedImage) -> tuple[int, int]:
    """Return width and height, after rotation, of a TIFF that Pillow cannot open."""
    import tifffile

    with _silent("tifffile"), tifffile.TiffFile(file.source()) as tiff:
        page: Any = tiff.pages.first
        orientation = page.tags.get(_ORIENTATION)
        size = (int(page.imagewidth), int(page.imagelength))
    return size[::-1] if orientation is not None and int(orientation.value) in range(5, 9) else size


@contextmanager
def _silent(name: str) -> Iterator[None]:
    """Silence the logger of a library that also raises what it logs."""
    logger = logging.getLogger(name)
    level = logger.level
    logger.setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        logger.setLevel(level)


def unmultiplied(samples: Pixels) -> Pixels:
    """Divide premultiplied colours by alpha, the last channel."""
    result: Pixels = samples.copy()
    for rows in strips(len(samples), samples[:1].nbytes):
        alpha = samples[rows, :, -1:].astype(np.uint32)
        colours = (samples[rows, :, :-1] * np.uint64(65535) + alpha // 2) // np.maximum(alpha, 1)
        result[rows, :, :-1] = np.minimum(colours, 65535)
    return result


def _tags(image: Image.Image) -> Any:
    return image.tag_v2  # type: ignore[attr-defined]


def _layout(image: Image.Image) -> str:
    """Return Pillow's raw mode, the layout of a pixel in the file."""
    tiles = image.tile  # type: ignore[attr-defined]
    return str(tiles[0][3]) if tiles else ""


def _load(image: Image.Image, layout: str) -> None:
    """Decode the image as if ``layout`` were the file's raw mode."""
    opened: Any = image
    opened.tile = [
        ImageFile._Tile(tile[0], tile[1], tile[2], (layout, *tile[3][1:]) if isinstance(tile[3], tuple) else layout)
        for tile in opened.tile
    ]
    opened.load()


def _strip(image: Image.Image, rows: slice) -> Pixels:
    return np.asarray(image.crop((0, rows.start, image.width, rows.stop)))


def _two_passes(file: EncodedImage, image: Image.Image, high: str, low: str) -> Pixels:
    with Image.open(file.source(), formats=[str(image.format)]) as second:
        _load(second, low)
        samples = np.empty((second.height, second.width, len(second.getbands())), np.uint16)
        for rows in strips(second.height, second.width * 8):
            samples[rows] = _strip(second, rows)
    second.close()  # free its memory before the other image is loaded
    _load(image, high)
    for rows in strips(image.height, image.width * 8):
        samples[rows] |= _strip(image, rows).astype(np.uint16) << 8
    return samples


def _grey(image: Image.Image) -> Pixels:
    bits, inverted = 16, False
    if image.format == "TIFF":
        bits, inverted = _tags(image).get(_BITS, (16,))[0], _tags(image).get(_PHOTOMETRIC) == _WHITE_IS_ZERO
    image.load()
    samples = np.empty((image.height, image.width, 1), np.uint16)
    for rows in strips(image.height, image.width * 8):
        strip = _strip(image, rows).astype(np.uint32)
        samples[rows, :, 0] = strip if bits == 16 else strip * 65535 // (2**bits - 1)
        if inverted:
            samples[rows] = 65535 - samples[rows]
    return samples
