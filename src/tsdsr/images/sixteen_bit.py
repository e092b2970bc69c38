"""Reading of 16-bit PNG and TIFF at full depth.

Pillow has no 16-bit colour modes and keeps one byte of each sample: the high byte if it decodes with the file's byte
order, the low byte if it decodes with the opposite one. Decoding twice, once per byte order, gives all 16 bits, with
Pillow's speed, checks and format support (interlaced PNG, LZW, tiles). Pillow supports 16-bit grey directly. The module
tiff_reading has the TIFF layouts that Pillow does not support.
"""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
from PIL import Image, ImageFile

from tsdsr.images.encoded import EncodedImage
from tsdsr.images.picture import Pixels, strips

_BITS, _PHOTOMETRIC, _SAMPLES, _PLANES, _EXTRA = 258, 262, 277, 284, 338
_WHITE_IS_ZERO, _ASSOCIATED, _APART = 0, 1, 2
_LITTLE = sys.byteorder == "little"


def is_16_bit(image: Image.Image) -> bool:
    """Return whether an opened image has more than 8 bits per sample and :func:`read_16_bit` can read it."""
    if image.mode.startswith("I;16"):
        return True
    if image.format == "TIFF":
        return image.mode in ("RGB", "RGBA") and set(_tags(image).get(_BITS, (8,))) == {16}
    return image.format == "PNG" and _layout(image).endswith(";16B")


def needs_tifffile(image: Image.Image) -> bool:
    """Return whether an opened image is a TIFF that Pillow opens and decodes wrongly or not at all."""
    if image.format != "TIFF":
        return False
    samples, apart = _tags(image).get(_SAMPLES, 1), _tags(image).get(_PLANES) == _APART
    planes = apart and (samples == 2 or (samples > 1 and is_16_bit(image)))
    return planes or image.info.get("compression") == "webp"


def reduces_depth(image: Image.Image) -> bool:
    """Return whether Pillow keeps 8 of the 16 bits of an opened image that :func:`is_16_bit` does not accept."""
    return image.format == "TIFF" and 16 in _tags(image).get(_BITS, ()) and not is_16_bit(image)


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
        if image.tell():  # the photograph is on a later page of a TIFF
            second.seek(image.tell())
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
