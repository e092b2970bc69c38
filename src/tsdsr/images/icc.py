"""ICC profiles: channel checks and conversion to sRGB at 8 and 16 bits."""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import replace
from io import BytesIO
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms

from tsdsr.images.color_spaces import SRGB_PRIMARIES, adapted, srgb_encoded
from tsdsr.images.hdr import tone_mapped
from tsdsr.images.metadata import declare_srgb
from tsdsr.images.picture import Picture, Pixels, strips


def profile_cicp(icc: bytes) -> tuple[int, int, int, int] | None:
    """Return the code points of ITU-T H.273 in a profile: primaries, transfer, matrix, full range flag.

    Raises:
        ValueError, struct.error: The profile is damaged.
    """
    at = _tags(icc).get(b"cicp")
    if at is None or len(icc) < at + 12:
        return None
    return icc[at + 8], icc[at + 9], icc[at + 10], icc[at + 11]


def device_to_srgb(mode: str, icc: bytes | None) -> tuple[Callable[[Image.Image], Image.Image], str]:
    """Return a function that converts CMYK, LAB or YCbCr images to sRGB, and a description of the method."""
    if mode == "YCbCr":
        return lambda image: image.convert("RGB"), "by its definition"
    if mode == "LAB":
        return _converter(ImageCms.createProfile("LAB"), "LAB", "RGB"), "by its definition"
    if icc is not None and icc[16:20] == b"CMYK":
        try:
            return _converter(BytesIO(icc), "CMYK", "RGB"), "(sRGB) through its profile"
        except (ImageCms.PyCMSError, OSError):
            pass
    return lambda image: image.convert("RGB"), "without a profile, so that colours are approximate"


def to_srgb(picture: Picture) -> Picture:
    """Convert a picture to sRGB and drop its profile. Grey pictures get the sRGB tone curve. HDR is tone-mapped.

    The intent is relative colorimetric: white stays white, and colours outside sRGB are clipped. LittleCMS converts
    8-bit pictures; it has no 16-bit RGB in Pillow. 16-bit pictures are converted with the profile's matrix and curves.
    A 16-bit picture with a table-based profile keeps it, with a notice.
    """
    if picture.metadata.hdr is not None:
        picture = tone_mapped(picture)
        return replace(picture, metadata=declare_srgb(picture.metadata))
    icc = picture.metadata.icc
    if icc is None:
        return picture
    try:
        pixels = _deep_to_srgb(picture.pixels, icc) if picture.max_value > 255 else _bytes_to_srgb(picture.pixels, icc)
    except (ImageCms.PyCMSError, OSError, ValueError, struct.error, LookupError, ArithmeticError) as error:
        notice = f"the ICC profile cannot be applied and is kept ({error})"
        return replace(picture, notices=(*picture.notices, notice))
    return replace(picture, pixels=pixels, metadata=declare_srgb(picture.metadata))


def _converter(
    source: Any, mode: str, target: str, intent: ImageCms.Intent = ImageCms.Intent.PERCEPTUAL
) -> Callable[[Image.Image], Image.Image]:
    transform = ImageCms.buildTransform(source, ImageCms.createProfile("sRGB"), mode, target, intent)

    def convert(image: Image.Image) -> Image.Image:
        result = ImageCms.applyTransform(image, transform)
        assert result is not None
        return result

    return convert


def _bytes_to_srgb(pixels: Pixels, icc: bytes) -> Pixels:
    grey = pixels.shape[2] == 1
    convert = _converter(BytesIO(icc), "L" if grey else "RGB", "RGB", ImageCms.Intent.RELATIVE_COLORIMETRIC)
    result = np.empty_like(pixels)
    for rows in strips(len(pixels), pixels[:1].nbytes):
        strip = Image.fromarray(pixels[rows, :, 0] if grey else pixels[rows])
        result[rows] = np.asarray(convert(strip))[..., : pixels.shape[2]]
    return result


def _deep_to_srgb(pixels: Pixels, icc: bytes) -> Pixels:
    tags = _tags(icc)
    if b"A2B0" in tags:
        raise ValueError("a profile made of tables, at 16 bits")
    grey = pixels.shape[2] == 1
    levels = np.linspace(0, 1, 65536)
    curves = [_curve(icc, tags[tag], levels) for tag in ([b"kTRC"] if grey else [b"rTRC", b"gTRC", b"bTRC"])]
    to_linear_srgb = np.eye(1)
    if not grey:
        columns = [struct.unpack_from(">3i", icc, tags[tag] + 8) for tag in (b"rXYZ", b"gXYZ", b"bXYZ")]
        to_linear_srgb = np.linalg.inv(adapted(SRGB_PRIMARIES)[0]) @ (np.array(columns).T / 65536)
    result = np.empty_like(pixels)
    for rows in strips(len(pixels), pixels[:1].nbytes):
        linear = np.stack([curve[pixels[rows, :, c]] for c, curve in enumerate(curves)], axis=-1)
        result[rows] = np.rint(srgb_encoded((linear @ to_linear_srgb.T).clip(0, 1)) * 65535)
    return result


def _tags(icc: bytes) -> dict[bytes, int]:
    """Map each tag to the offset of its data."""
    (count,) = struct.unpack_from(">I", icc, 128)
    if count > 1000:
        raise ValueError("damaged")
    entries = (struct.unpack_from(">4sII", icc, 132 + 12 * i) for i in range(count))
    return {signature: offset for signature, offset, _ in entries}


def _curve(icc: bytes, at: int, x: NDArray[np.float64]) -> NDArray[np.float64]:
    """Evaluate a tone curve at x in [0, 1].

    The curve is a table, a power, or one of the parametric forms of ICC.1:2010, sections 10.5 and 10.15.
    """
    kind = icc[at : at + 4]
    if kind == b"curv":
        (count,) = struct.unpack_from(">I", icc, at + 8)
        table = np.frombuffer(icc, ">u2", count, at + 12)
        if count < 2:
            return np.asarray(x ** (float(table[0]) / 256 if count else 1.0))
        return np.interp(x, np.linspace(0, 1, count), table / 65535)
    if kind != b"para":
        raise ValueError(f"unknown curve {kind!r}")
    (form,) = struct.unpack_from(">H", icc, at + 8)
    p = [v / 65536 for v in struct.unpack_from(f">{(1, 3, 4, 5, 7)[form]}i", icc, at + 12)]
    if form == 0:
        return np.asarray(x ** p[0])
    g, a, b = p[:3]
    if form < 3:
        c, d, e = 0.0, -b / a, p[3] if form == 2 else 0.0
        f = e
    else:
        c, d, e, f = (*p[3:], 0.0, 0.0)[:4]
    y: NDArray[np.float64] = np.where(x >= d, np.maximum(a * x + b, 0) ** g + e, c * x + f)
    return y
