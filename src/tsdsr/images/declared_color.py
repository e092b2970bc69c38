"""Colour spaces declared by other means than an ICC profile, and pictures in them.

==========  =============================================================================
format      means, the first that is there wins
==========  =============================================================================
PNG         cICP; iCCP; sRGB; gAMA and cHRM; EXIF (PNG specification, third edition, 4.3)
AVIF, HEIC  nclx of PQ or HLG; ICC; nclx, or the same codes in the AV1 stream; EXIF
JPEG XL     the codestream, which libjxl returns as an ICC profile
BMP         the header of version 4 or 5; EXIF does not exist
others      ICC; EXIF, or the same tags of a TIFF
==========  =============================================================================

An ICC profile may itself say that its values are HDR, with its tag ``cicp`` (ICC.1:2022, 9.2.17).
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from PIL import Image

from tsdsr.images import exif as tag
from tsdsr.images.bmp_header import bmp_space
from tsdsr.images.color_spaces import ADOBE_RGB, SRGB_PRIMARIES, ColorSpace, gamma_space, primaries_name
from tsdsr.images.encoded import EncodedImage
from tsdsr.images.icc import profile_cicp
from tsdsr.images.isobmff import HeifInfo, read_heif_info
from tsdsr.images.metadata import declare_srgb
from tsdsr.images.picture import Picture, strips
from tsdsr.images.png_chunks import read_chunks

_SRGB, _ADOBE = 1, 2
_PQ_PROFILES = (b"ITUR_2100_PQ_FULL\0",)
"""Names of ICC profiles that stand for PQ with the primaries of BT.2020 (W3C note on PQ in PNG)."""

Header = HeifInfo | Mapping[bytes, bytes]
"""What the boxes of an AVIF or HEIC, or the chunks of a PNG, say; empty for other formats."""


@dataclass(frozen=True)
class Declared:
    """What a file declares about the colours of its pixels.

    Attributes:
        space (ColorSpace | None): the colour space; None if it is that of the ICC profile, or else sRGB.
        source (str): where the file says it.
        notices (tuple of str): messages about declarations that cannot be used.
    """

    space: ColorSpace | None = None
    source: str = ""
    notices: tuple[str, ...] = ()


def read_header(file: EncodedImage, kind: str) -> Header:
    """Read the boxes of an AVIF or HEIC or the chunks of a PNG.

    Args:
        file (EncodedImage): the file.
        kind (str): Pillow's name of the format.
    """
    with file.stream() as stream:
        if kind in ("AVIF", "HEIF"):
            return read_heif_info(stream)
        return read_chunks(stream) if kind == "PNG" else {}


def read_declared(file: EncodedImage, kind: str, info: Mapping[Any, Any], tags: Image.Exif, header: Header) -> Declared:
    """Find out which colour space a file declares for its grey or RGB values.

    Args:
        file (EncodedImage): the file.
        kind (str): Pillow's name of the format.
        info (mapping): Pillow's ``info``.
        tags (Exif): EXIF tags (for a TIFF, all of its tags).
        header (HeifInfo | mapping): see :func:`read_header`.
    """
    icc: bytes | None = info.get("icc_profile") or None
    sources = _sources(file, kind, icc, header)
    if icc is None:
        sources.append(("EXIF" if kind != "TIFF" else "TIFF tags", lambda: _of_tags(tags)))
    notices: list[str] = []
    for name, read in sources:
        try:
            space = read()
        except ValueError as error:
            notices.append(f"the colours declared by {name} are not used: {error}")
        except Exception:  # a damaged block raises almost anything, and read_metadata reports it
            continue
        else:
            if space is not None:
                return Declared(space, name, tuple(notices))
    return Declared(notices=tuple(notices))


_Source = tuple[str, Callable[[], ColorSpace | None]]


def _sources(file: EncodedImage, kind: str, icc: bytes | None, header: Header) -> list[_Source]:
    """Return the places to look before EXIF, in order."""
    of_icc: list[_Source] = [] if icc is None else [("the ICC profile", lambda: _of_icc(icc))]
    if isinstance(header, HeifInfo):
        nclx = None if header.cicp is None else _of_codes(*header.cicp[:2])
        if nclx is not None and (icc is None or nclx.hdr):
            return [("nclx", lambda: nclx)]
    elif kind == "PNG":
        chunks = header
        if icc is not None and chunks.get(b"iCCP", b"").startswith(_PQ_PROFILES):
            of_icc = [("the ICC profile", lambda: ColorSpace.of_cicp(9, 16))]
        cicp: _Source = ("cICP", lambda: _of_chunk(chunks[b"cICP"]) if b"cICP" in chunks else None)
        return [cicp, *(of_icc or [("gAMA and cHRM", lambda: _of_gamma(chunks))])]
    elif kind == "BMP":
        return [*of_icc, ("the header", lambda: bmp_space(file.head(138)))]
    return of_icc


def in_declared_space(picture: Picture, declared: Declared) -> Picture:
    """Make a picture's values and profile follow what its file declares.

    Values keep the curve of sRGB or one close to it. Other curves are replaced by that of sRGB, because models and
    8 bits are made for it. Primaries other than those of sRGB become an ICC profile, so that no colour is clipped.
    HDR values stay as they are and are marked.

    Args:
        picture (Picture): as decoded; its arrays are changed.
        declared (Declared): see :func:`read_declared`.
    """
    space, metadata = declared.space, picture.metadata
    notices = [*picture.notices, *declared.notices]
    if space is None:
        return replace(picture, notices=tuple(notices))
    if space.hdr:
        return replace(picture, metadata=replace(metadata, icc=None, hdr=space), notices=tuple(notices))
    if not space.near_srgb:
        _replace_values(picture, space)
        notices.append(
            f"the values declared by {declared.source} ({space.name}) are converted to the tone curve of sRGB"
        )
    icc = None if picture.grey or space.has_srgb_primaries else space.profile()
    if icc is not None:
        notices.append(f"the colours declared by {declared.source} ({space.name}) are turned into an ICC profile")
    metadata = declare_srgb(metadata) if icc is None else replace(metadata, icc=icc)
    return replace(picture, metadata=metadata, notices=tuple(notices))


def _replace_values(picture: Picture, space: ColorSpace) -> None:
    tables = np.rint(space.srgb_values(picture.max_value) * picture.max_value).astype(picture.pixels.dtype)
    for rows in strips(picture.height, picture.pixels[:1].nbytes):
        for channel in range(picture.pixels.shape[2]):
            part = picture.pixels[rows, :, channel]
            part[...] = tables[channel if len(tables) > 1 else 0][part]


def _of_codes(primaries: int, transfer: int, full_range: bool = True) -> ColorSpace | None:
    return None if (primaries, transfer) == (2, 2) else ColorSpace.of_cicp(primaries, transfer, full_range)


def _of_chunk(cicp: bytes) -> ColorSpace | None:
    primaries, transfer, matrix, full_range = cicp[:4]
    if matrix != 0:
        raise ValueError(f"matrix coefficients {matrix}, although PNG stores RGB")
    return _of_codes(primaries, transfer, full_range != 0)


def _of_gamma(chunks: Mapping[bytes, bytes]) -> ColorSpace | None:
    if b"sRGB" in chunks:
        return ColorSpace("sRGB")
    primaries: Any = None
    if b"cHRM" in chunks:
        primaries = tuple(value / 100_000 for value in struct.unpack(">8I", chunks[b"cHRM"]))
    if b"gAMA" in chunks:
        (gamma,) = struct.unpack(">I", chunks[b"gAMA"])
        return gamma_space(100_000 / gamma if gamma else 0.0, primaries)
    return _of_primaries(primaries)


def _of_primaries(primaries: Any) -> ColorSpace | None:
    if primaries is None:
        return None
    return ColorSpace(primaries_name(primaries), primaries)


def _of_icc(icc: bytes) -> ColorSpace | None:
    codes = profile_cicp(icc)
    space = None if codes is None else ColorSpace.of_cicp(*codes[:2], codes[3] != 0)
    return space if space is not None and space.hdr else None


def _of_tags(tags: Image.Exif) -> ColorSpace | None:
    """Interpret EXIF (EXIF 3.0, 4.6.5; DCF 2.0) or a TIFF's tags (TIFF 6.0, section 20)."""
    camera = tags.get_ifd(tag.EXIF_IFD)
    declared = camera.get(tag.COLOR_SPACE)
    index = ""
    with suppress(KeyError):  # Pillow before 13, if there is no such directory
        index = tags.get_ifd(tag.INTEROPERABILITY_IFD).get(tag.INTEROPERABILITY_INDEX, "")
    if declared == _SRGB:
        return None
    if declared == _ADOBE or str(index).startswith("R03"):
        return ADOBE_RGB
    primaries: Any = None
    if tag.PRIMARIES in tags:
        white = tags.get(tag.WHITE_POINT, SRGB_PRIMARIES[:2])
        primaries = tuple(float(v) for v in (*white, *tags[tag.PRIMARIES]))
        if len(primaries) != 8:
            raise ValueError("primaries of a wrong number")
    if tag.GAMMA in camera:
        return gamma_space(float(camera[tag.GAMMA]), primaries)
    return _of_curves(tags.get(tag.TRANSFER_FUNCTION), primaries)


def _of_curves(values: Any, primaries: Any) -> ColorSpace | None:
    """Interpret a TIFF's table of one or three curves of 2**bits entries each, 65535 for white."""
    plain = _of_primaries(primaries)
    count = 0 if values is None else len(values)
    if count not in (256, 768, 65536, 196608):
        return plain
    tables = np.reshape(np.asarray(values, np.float64) / 65535, (3 if count % 3 == 0 else 1, -1))
    found = ColorSpace("a table of curves", primaries or SRGB_PRIMARIES, tables)
    near = np.abs(found.srgb_values(255) - np.linspace(0, 1, 256)).max() < 0.04
    return plain if near else found
