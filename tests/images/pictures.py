"""Test pictures of every kind, with all metadata."""

from __future__ import annotations

from functools import cache

import numpy as np
import skimage.data
from PIL import Image, ImageCms

from tsdsr.images.formats import FORMATS, codecs
from tsdsr.images.picture import Metadata, Picture, Pixels

SUFFIXES = [
    suffix
    for suffix, name in FORMATS.items()
    if name in codecs() and suffix not in (".jpeg", ".jfif", ".jpe", ".tiff", ".heif")
]
"""One suffix for each format that can be used here."""

LOSSLESS = (".png", ".tif", ".bmp")


def rgb(width: int = 64, height: int = 48) -> Pixels:
    """A photograph (height, width, 3), uint8."""
    return np.asarray(Image.fromarray(skimage.data.astronaut()).resize((width, height)))


def ramp(width: int = 64, height: int = 48) -> Pixels:
    """An alpha channel (height, width) with everything from transparent to opaque, uint8."""
    return np.tile(np.linspace(0, 255, width).round().astype(np.uint8), (height, 1))


def deep(values: Pixels, seed: int = 0) -> Pixels:
    """8 bits → 16 with something in the low byte."""
    low = np.random.default_rng(seed).integers(0, 256, values.shape, dtype=np.uint16)
    return values.astype(np.uint16) * 256 + low


@cache  # it has a time stamp
def srgb_profile() -> bytes:
    return ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


XMP = (
    b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:Description tiff:Orientation="1" tiff:ImageWidth="64">'
    b"<exif:PixelYDimension>48</exif:PixelYDimension><dc:title>A title</dc:title></rdf:Description></x:xmpmeta>"
)


def exif(orientation: int = 1, width: int = 64, height: int = 48) -> Image.Exif:
    """Tags in all four directories."""
    tags = Image.Exif()
    tags[0x010F], tags[0x0112], tags[0x8298] = "A maker", orientation, "somebody"
    tags.get_ifd(0x8769).update({0x829A: 0.005, 0xA002: width, 0xA003: height, 0x927C: b"maker's own \0\1"})
    tags.get_ifd(0x8825).update({1: "N", 2: (47.0, 22.0, 30.5)})
    return tags


def metadata() -> Metadata:
    return Metadata(exif().tobytes().removeprefix(b"Exif\0\0"), srgb_profile(), XMP, (300.0, 150.0))


def kinds() -> dict[str, Picture]:
    """Grey and RGB of 8 and 16 bits, with and without alpha."""
    found = {}
    for name, pixels in {"rgb": rgb(), "grey": rgb()[..., :1].copy()}.items():
        for bits, convert in {"8": np.asarray, "16": deep}.items():
            found[f"{name}{bits}"] = Picture(convert(pixels))
            found[f"{name}{bits}-alpha"] = Picture(convert(pixels), convert(ramp()))
    return found
