"""EXIF, XMP, ICC and DPI: reading them from a file, and updating them for the upright, upscaled picture."""

from __future__ import annotations

import math
import struct
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from PIL import Image

from tsdsr.images.exif import ORIENTATION, fit_exif
from tsdsr.images.exif import declare_srgb as exif_of_srgb
from tsdsr.images.picture import Metadata, Pixels
from tsdsr.images.xmp import declare_srgb as xmp_of_srgb
from tsdsr.images.xmp import fit_xmp, without_references

DESCRIPTION, X_RESOLUTION, Y_RESOLUTION, RESOLUTION_UNIT = 0x010E, 0x011A, 0x011B, 0x0128

_SPACES = {1: b"GRAY", 3: b"RGB "}
"""Colour space in an ICC profile for each number of channels."""

TIFF_STRUCTURE = frozenset(
    {*range(254, 270), 273, *range(277, 282), *range(284, 296), 297, 301, *range(317, 348), *range(512, 533),
     700, 33723, 34377, 34675, 0x828D, 0x828E, *range(50706, 51200)}
)  # fmt: skip
"""TIFF tags that describe the file layout or have their own field in :class:`Metadata`."""


def read_metadata(tags: Image.Exif, info: Mapping[Any, Any], kind: str) -> tuple[Metadata, int, list[str]]:
    """Read the metadata of a file without changing it.

    Args:
        tags (Exif): EXIF tags as parsed by Pillow (for a TIFF, all of its tags).
        info (mapping): Pillow's ``info`` of the loaded image.
        kind (str): name of the format.

    Returns:
        tuple: the metadata, the EXIF orientation (1 to 8), and notices about blocks that could not be parsed.
    """
    notices: list[str] = []
    exif = xmp = dpi = None
    orientation = 1
    try:
        orientation = int(tags.get(ORIENTATION, 1))
        exif = _exif_bytes(tags, info.get("exif"), kind)
        dpi = _dpi(info.get("dpi")) or _exif_dpi(tags)
    except Exception as error:  # Pillow's parser can raise almost anything on a damaged block
        notices.append(f"the EXIF data is damaged and left out ({error})")
    text = info.get("xmp") or info.get("XML:com.adobe.xmp")
    if text:
        xmp, found = without_references(text.encode() if isinstance(text, str) else bytes(text).rstrip(b"\0"))
        notices += [f"left out, with what XMP says of it: {', '.join(found)}"] if found else []
    icc = info.get("icc_profile") or None
    if icc is not None and not _is_profile(icc):
        icc = None
        notices.append("the ICC profile is damaged and left out")
    if not 1 <= orientation <= 8:
        orientation = 1
    return Metadata(exif, icc, xmp, dpi), orientation, notices


def fitted(metadata: Metadata, pixels: Pixels) -> tuple[Metadata, list[str]]:
    """Update metadata for upright pixels.

    The orientation becomes 1, sizes are updated, the thumbnail is removed, and a profile for other channels is dropped.

    Returns:
        tuple: the metadata, and a notice for each block that was dropped.
    """
    notices = []
    height, width, channels = pixels.shape
    exif, icc = metadata.exif, metadata.icc
    if icc is not None and icc[16:20] != _SPACES[channels]:
        icc = None
        notices.append("the ICC profile belongs to another kind of pixels and is left out")
    if exif is not None:
        try:
            exif = fit_exif(exif, width, height)
        except (struct.error, ValueError):
            exif = None
            notices.append("the EXIF data is damaged and left out")
    xmp = metadata.xmp and fit_xmp(metadata.xmp, width, height)
    return replace(metadata, exif=exif, icc=icc, xmp=xmp), notices


def declare_srgb(metadata: Metadata) -> Metadata:
    """Drop the profile, and let EXIF and XMP say sRGB where they say anything about colours."""
    exif = metadata.exif and exif_of_srgb(metadata.exif)
    return replace(metadata, icc=None, exif=exif, xmp=metadata.xmp and xmp_of_srgb(metadata.xmp))


def with_resolution(metadata: Metadata) -> Metadata:
    """Copy the DPI into the EXIF block unless it is there already. For formats that store it only in EXIF."""
    if metadata.dpi is None:
        return metadata
    exif = Image.Exif()
    exif.load(metadata.exif or b"")
    if X_RESOLUTION in exif and Y_RESOLUTION in exif:
        return metadata
    exif[X_RESOLUTION], exif[Y_RESOLUTION], exif[RESOLUTION_UNIT] = *metadata.dpi, 2
    return replace(metadata, exif=exif.tobytes().removeprefix(b"Exif\0\0"))


def _exif_bytes(tags: Image.Exif, raw: bytes | None, kind: str) -> bytes | None:
    if kind == "TIFF":
        for tag in [tag for tag in tags if tag in TIFF_STRUCTURE]:
            del tags[tag]
        if str(tags.get(DESCRIPTION, "")).startswith('{"shape": '):  # tifffile's description of its own array
            del tags[DESCRIPTION]
        if not set(tags) - {ORIENTATION, X_RESOLUTION, Y_RESOLUTION, RESOLUTION_UNIT}:
            return None  # the other fields already hold all of this
    elif raw:
        return raw.removeprefix(b"Exif\0\0")
    tags.bigtiff = False  # the directories of a BigTIFF become those of a classic one
    return tags.tobytes().removeprefix(b"Exif\0\0") if len(tags) else None


def _dpi(value: Any) -> tuple[float, float] | None:
    try:
        x, y = (float(v) for v in value)
    except (TypeError, ValueError, ZeroDivisionError):
        return None
    if not all(math.isfinite(v) and 1 < v < 1e5 for v in (x, y)):
        return None
    # Pillow reports 1 dpi for a TIFF without a resolution, hence the lower limit.
    # PNG and BMP store integer pixels per metre: 300 dpi is read back as 299.9994.
    x, y = (float(round(v)) if abs(v - round(v)) < 0.0128 else v for v in (x, y))
    return x, y


def _exif_dpi(tags: Image.Exif) -> tuple[float, float] | None:
    factor = {2: 1.0, 3: 2.54}.get(tags.get(RESOLUTION_UNIT, 2))
    dpi = _dpi((tags.get(X_RESOLUTION), tags.get(Y_RESOLUTION)))
    return None if dpi is None or factor is None else (dpi[0] * factor, dpi[1] * factor)


def _is_profile(icc: bytes) -> bool:
    return len(icc) >= 132 and icc[36:40] == b"acsp"
