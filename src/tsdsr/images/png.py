"""PNG writer for 8 and 16 bits that works strip by strip (PNG specification, third edition).

Pillow has no 16-bit colour and needs a second copy of the whole picture. OpenCV writes 16 bits but no metadata.
"""

from __future__ import annotations

import struct
import zlib
from typing import IO

import numpy as np
from numpy.typing import NDArray

from tsdsr.images.picture import Metadata, Picture, Pixels, strips

_COLOUR_TYPES = {(1, False): 0, (3, False): 2, (1, True): 4, (3, True): 6}


def write_png(picture: Picture, file: IO[bytes], level: int) -> None:
    """Write a picture with its ICC profile, EXIF, XMP and DPI.

    Args:
        picture (Picture): read strip by strip, so its arrays may be memory-mapped.
        file (binary file): open for writing.
        level (int): zlib compression level, 0 to 9.
    """
    file.write(b"\x89PNG\r\n\x1a\n")
    colour_type = _COLOUR_TYPES[picture.pixels.shape[2], picture.alpha is not None]
    header = struct.pack(">IIBBBBB", picture.width, picture.height, picture.pixels.itemsize * 8, colour_type, 0, 0, 0)
    _chunk(file, b"IHDR", header)
    _write_metadata(picture.metadata, file)
    deflate = deflater(level)
    channels = picture.pixels.shape[2] + (picture.alpha is not None)
    above = np.zeros((1, picture.width * channels * picture.pixels.itemsize), np.uint8)
    for rows in strips(picture.height, above.nbytes, 1 << 19):
        raw = _raw_rows(picture, rows)
        body = deflate.compress(_filtered(raw, above, channels * picture.pixels.itemsize))
        above = raw[-1:]
        if body:
            _chunk(file, b"IDAT", body)
    _chunk(file, b"IDAT", deflate.flush())
    _chunk(file, b"IEND", b"")


def deflater(level: int) -> zlib._Compress:
    """Create a zlib compressor tuned for differences of neighbouring samples.

    Upscaled pictures contain few repetitions. Up to level 5 the compressor therefore searches for runs only, which is
    up to five times as fast as zlib's default at level 4, at about the same size (docs/measurements/files.md).
    """
    return zlib.compressobj(level, strategy=zlib.Z_RLE if level < 6 else zlib.Z_FILTERED)


def interleaved(picture: Picture, rows: slice) -> Pixels:
    """Return colour and alpha of some rows as one array (rows, W, C)."""
    if picture.alpha is None:
        return picture.pixels[rows]
    return np.concatenate([picture.pixels[rows], picture.alpha[rows, :, None]], axis=-1)


def _raw_rows(picture: Picture, rows: slice) -> NDArray[np.uint8]:
    samples = interleaved(picture, rows)
    big_endian = np.ascontiguousarray(samples, samples.dtype.newbyteorder(">"))
    return big_endian.view(np.uint8).reshape(len(samples), -1)


def _filtered(raw: NDArray[np.uint8], above: NDArray[np.uint8], distance: int) -> bytes:
    """Filter rows, each with the filter that gives the smallest sum of absolute differences (section 12.7)."""
    up = np.concatenate([above, raw[:-1]])
    left, corner = np.zeros_like(raw), np.zeros_like(raw)
    left[:, distance:], corner[:, distance:] = raw[:, :-distance], up[:, :-distance]
    candidates = {1: raw - left, 2: raw - up, 4: raw - _paeth(left, up, corner)}
    costs = np.stack([np.abs(c.view(np.int8), dtype=np.int16).sum(1, dtype=np.int64) for c in candidates.values()])
    chosen = costs.argmin(0)
    result = np.empty((len(raw), raw.shape[1] + 1), np.uint8)
    for i, (kind, candidate) in enumerate(candidates.items()):
        result[chosen == i, 0], result[chosen == i, 1:] = kind, candidate[chosen == i]
    return result.tobytes()


def _paeth(left: NDArray[np.uint8], up: NDArray[np.uint8], corner: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return the neighbour nearest to left + up - corner. Ties prefer left, then up."""
    a, b = up.astype(np.int16) - corner, left.astype(np.int16) - corner
    to_left, to_up, to_corner = np.abs(a), np.abs(b), np.abs(a + b)
    prefer_up = np.where(to_up <= to_corner, up, corner)
    return np.where((to_left <= to_up) & (to_left <= to_corner), left, prefer_up)


def _write_metadata(metadata: Metadata, file: IO[bytes]) -> None:
    if metadata.icc is not None:
        _chunk(file, b"iCCP", b"ICC profile\0\0" + zlib.compress(metadata.icc))
    if metadata.dpi is not None:
        x, y = (round(value / 0.0254) for value in metadata.dpi)
        _chunk(file, b"pHYs", struct.pack(">IIB", x, y, 1))
    if metadata.exif is not None:
        _chunk(file, b"eXIf", metadata.exif)
    if metadata.xmp is not None:
        _chunk(file, b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + metadata.xmp)


def _chunk(file: IO[bytes], kind: bytes, body: bytes) -> None:
    file.write(struct.pack(">I", len(body)) + kind)
    file.write(body)
    file.write(struct.pack(">I", zlib.crc32(body, zlib.crc32(kind))))
