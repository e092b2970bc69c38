"""TIFF writer for 8 and 16 bits that works strip by strip, with deflate and horizontal differencing (TIFF 6.0).

Pillow has no 16-bit colour, and tifffile writes no EXIF directories. This module writes the pixels, Pillow the
directories.
"""

from __future__ import annotations

import struct
from typing import IO, Any

from PIL import Image
from PIL.TiffImagePlugin import ImageFileDirectory_v2

from tsdsr.images.exif import EXIF_IFD, GPS_IFD, INTEROPERABILITY_IFD
from tsdsr.images.metadata import RESOLUTION_UNIT, TIFF_STRUCTURE, X_RESOLUTION, Y_RESOLUTION
from tsdsr.images.picture import Picture, strips
from tsdsr.images.png import deflater, interleaved

_UNDEFINED, _LONG8 = 7, 16
_CLASSIC_BYTES = 2**32 - 1
"""Largest position in a classic TIFF. Larger files are BigTIFF, which has the same tags and 64-bit positions."""


def write_tiff(picture: Picture, file: IO[bytes], level: int) -> None:
    """Write a picture with its ICC profile, EXIF, XMP and DPI. Alpha is unassociated.

    A picture that may take more than 4 GB is written as BigTIFF.

    Args:
        picture (Picture): read strip by strip, so its arrays may be memory-mapped.
        file (binary file): open for writing, seekable.
        level (int): zlib compression level, 0 to 9.
    """
    channels = picture.pixels.shape[2] + (picture.alpha is not None)
    row_bytes = picture.width * channels * picture.pixels.itemsize
    groups = strips(picture.height, row_bytes, 1 << 19)
    offsets, lengths = [0] * len(groups), [0] * len(groups)
    start = 8 + len(_directory(picture, groups[0].stop, offsets, lengths, big=False).tobytes(8))
    big = start + picture.height * row_bytes * 1.01 > _CLASSIC_BYTES  # deflate adds less than 1 % to noise
    if big:
        start = 16 + len(_directory(picture, groups[0].stop, offsets, lengths, big=True).tobytes(16))
    file.seek(start)
    for i, rows in enumerate(groups):
        samples = interleaved(picture, rows).astype(picture.pixels.dtype.newbyteorder("<"))
        samples[:, 1:] -= samples[:, :-1].copy()
        deflate = deflater(level)
        body = deflate.compress(samples.tobytes()) + deflate.flush()
        offsets[i], lengths[i] = file.tell() - start, len(body)
        file.write(body)
    header = struct.pack("<2sHHHQ", b"II", 43, 8, 0, 16) if big else struct.pack("<2sHI", b"II", 42, 8)
    # ``tobytes`` adds the end of the directory to the offsets.
    header += _directory(picture, groups[0].stop, offsets, lengths, big=big).tobytes(len(header))
    assert len(header) == start
    file.seek(0)
    file.write(header)


def _directory(
    picture: Picture, rows_per_strip: int, offsets: list[int], lengths: list[int], *, big: bool
) -> ImageFileDirectory_v2:
    metadata, channels = picture.metadata, picture.pixels.shape[2] + (picture.alpha is not None)
    directory = ImageFileDirectory_v2(b"II+\0" + bytes(12) if big else b"II*\0" + bytes(4))
    if big:
        directory.tagtype[273] = _LONG8
    if metadata.exif is not None:
        _add_exif(directory, metadata.exif)
    tags: dict[int, Any] = {
        256: picture.width, 257: picture.height, 258: (picture.pixels.itemsize * 8,) * channels, 259: 8,
        262: 1 if picture.grey else 2, 273: tuple(offsets), 277: channels, 278: rows_per_strip, 279: tuple(lengths),
        284: 1, 317: 2, 339: (1,) * channels,
    }  # fmt: skip
    if picture.alpha is not None:
        tags[338] = (2,)
    if metadata.dpi is not None:
        tags |= {X_RESOLUTION: metadata.dpi[0], Y_RESOLUTION: metadata.dpi[1], RESOLUTION_UNIT: 2}
    for tag, value in tags.items():
        directory[tag] = value
    for tag, data in ((700, metadata.xmp), (34675, metadata.icc)):
        if data is not None:
            directory.tagtype[tag] = _UNDEFINED
            directory[tag] = data
    return directory


def can_hold(exif: bytes) -> bool:
    """Return whether an EXIF block, whose values may have any type, can be stored as TIFF directories."""
    directory = ImageFileDirectory_v2(prefix=b"II")
    try:
        _add_exif(directory, exif)
        directory.tobytes(8)
    except Exception:  # values of the wrong type raise many kinds of exceptions
        return False
    return True


def _add_exif(directory: ImageFileDirectory_v2, block: bytes) -> None:
    exif = Image.Exif()
    exif.load(block)
    for tag, value in exif.items():
        if tag in (EXIF_IFD, GPS_IFD):
            group = dict(exif.get_ifd(tag))
            if INTEROPERABILITY_IFD in group:
                group[INTEROPERABILITY_IFD] = dict(exif.get_ifd(INTEROPERABILITY_IFD))
            directory[tag] = group
        elif tag not in TIFF_STRUCTURE:
            directory[tag] = value
