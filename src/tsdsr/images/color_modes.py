"""Conversion of Pillow images of any mode to samples (H, W, C): grey or RGB, with or without alpha."""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from tsdsr.errors import ImageReadError
from tsdsr.images.icc import device_to_srgb
from tsdsr.images.picture import Picture, Pixels, strips


@dataclass(frozen=True)
class Conversion:
    """Conversion of an 8-bit image to grey or RGB.

    Attributes:
        mode (str): Pillow mode of the result: L, LA, RGB or RGBA.
        apply (callable): converts an image or a strip of it.
        keeps_profile (bool): whether the file's ICC profile still applies to the converted values.
        notices (list of str): messages for the user.
    """

    mode: str
    apply: Callable[[Image.Image], Image.Image]
    keeps_profile: bool = True
    notices: list[str] = field(default_factory=list)

    def run(self, image: Image.Image, orientation: int) -> Pixels:
        """Convert a loaded image strip by strip and return its upright samples (H, W, C)."""
        channels = len(self.mode)
        height, width = (image.width, image.height) if orientation > 4 else (image.height, image.width)
        samples = np.empty((height, width, channels), np.uint8)
        stored = _as_stored(samples, orientation)
        groups = strips(image.height, image.width * 4)
        for rows in groups:
            strip = self.apply(image.crop((0, rows.start, image.width, rows.stop)) if len(groups) > 1 else image)
            stored[rows] = np.asarray(strip).reshape(strip.height, strip.width, channels)
        return samples


def conversion_of(image: Image.Image, icc: bytes | None) -> Conversion:
    """Select the conversion for an image of at most 8 bits per sample.

    Raises:
        ImageReadError: The mode is unknown.
    """
    mode = image.mode
    if mode in ("CMYK", "LAB", "YCbCr"):
        convert, how = device_to_srgb(mode, icc)
        return Conversion("RGB", convert, False, [f"{mode} is converted to RGB {how}"])
    target = _TARGETS.get(mode)
    if target is None:
        raise ImageReadError(f"images of mode {mode} are not supported")
    if target in ("L", "RGB") and image.has_transparency_data:
        target += "A"
    notices = []
    if mode == "1":
        notices.append("1-bit black and white is converted to grey")
    elif mode in ("P", "PA"):
        notices.append("the palette is converted to RGB")
    return Conversion(target, lambda strip: strip if strip.mode == target else strip.convert(target), True, notices)


_TARGETS = {"1": "L", "L": "L", "LA": "LA", "La": "LA", "P": "RGB", "PA": "RGBA", "RGB": "RGB", "RGBA": "RGBA",
            "RGBa": "RGBA", "RGBX": "RGB"}  # fmt: skip


def rgb_of(image: Image.Image) -> NDArray[np.uint8]:
    """Convert a Pillow image to 8-bit RGB (H, W, 3), by the rules of :func:`tsdsr.images.reading.read_rgb`.

    Raises:
        ImageReadError: The mode is unknown or has no defined value range ("F", "I").
    """
    if image.mode.startswith("I;16"):
        samples = np.asarray(image).astype(np.uint16)[..., None]
    else:
        icc = image.info.get("icc_profile") if image.mode == "CMYK" else None
        samples = conversion_of(image, icc).run(image, 1)
    colours = 3 if samples.shape[2] > 2 else 1
    return Picture(samples[..., :colours], samples[..., -1] if samples.shape[2] > colours else None).to_rgb()


def upright(samples: Pixels, orientation: int) -> Pixels:
    """Apply an EXIF orientation to samples (H, W, C)."""
    if orientation == 1:
        return samples
    height, width, channels = samples.shape
    result = np.empty((width, height, channels) if orientation > 4 else samples.shape, samples.dtype)
    _as_stored(result, orientation)[...] = samples
    return result


def _as_stored(samples: Pixels, orientation: int) -> Pixels:
    """Return a view of upright samples (H, W, C) in the storage order of a file with that EXIF orientation."""
    if orientation > 4:
        samples = samples.swapaxes(0, 1)
    if orientation in (3, 4, 6, 7):
        samples = samples[::-1]
    if orientation in (2, 3, 7, 8):
        samples = samples[:, ::-1]
    return samples


def take_transparent_colour(image: Image.Image, chunks: Mapping[bytes, bytes]) -> tuple[int, ...] | None:
    """Remove the one grey or RGB value that is transparent from an opened PNG; return it as decoded samples hold it.

    Pillow scales grey of 1, 2 and 4 bits to 8, but not this value, and does not mask its unused bits (PNG
    specification, 11.3.1.1).

    Args:
        image (PIL image): the opened PNG.
        chunks (mapping): its chunks, see :func:`tsdsr.images.png_chunks.read_chunks`.
    """
    if b"tRNS" not in chunks or image.mode not in ("1", "L", "RGB", "I;16", "I;16B"):
        return None
    image.info.pop("transparency", None)
    bits, count = chunks[b"IHDR"][8], len(image.getbands())
    most = (1 << bits) - 1
    values = struct.unpack_from(f">{count}H", chunks[b"tRNS"])
    return tuple((value & most) * (255 // most if bits < 8 else 1) for value in values)


def with_transparent_colour(samples: Pixels, colour: tuple[int, ...]) -> Pixels:
    """Add an alpha channel to grey or RGB samples (H, W, C): 0 where they have this colour, opaque elsewhere."""
    if samples.shape[2] != len(colour):
        return samples
    result = np.full((*samples.shape[:2], len(colour) + 1), np.iinfo(samples.dtype).max, samples.dtype)
    for rows in strips(len(samples), samples[:1].nbytes):
        result[rows, :, :-1] = samples[rows]
        result[rows, :, -1][(samples[rows] == np.array(colour)).all(-1)] = 0
    return result
