"""Small files that declare their colours in other ways than with an ICC profile, made by hand."""

from __future__ import annotations

import struct
import zlib
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tsdsr.images.picture import Pixels

Chunk = tuple[bytes, bytes]
SRGB_CHRM = (31270, 32900, 64000, 33000, 30000, 60000, 15000, 6000)
P3_CHRM = (31270, 32900, 68000, 32000, 26500, 69000, 15000, 6000)


def gama(exponent: float) -> Chunk:
    return b"gAMA", struct.pack(">I", round(100_000 / exponent))


def chrm(values: tuple[int, ...] = P3_CHRM) -> Chunk:
    return b"cHRM", struct.pack(">8I", *values)


def cicp(primaries: int, transfer: int, matrix: int = 0, full: int = 1) -> Chunk:
    return b"cICP", bytes((primaries, transfer, matrix, full))


def iccp(icc: bytes, name: bytes = b"p") -> Chunk:
    return b"iCCP", name + b"\0\0" + zlib.compress(icc)


def write_png(path: Path, samples: Pixels, *chunks: Chunk, bits: int | None = None, palette: bool = False) -> Path:
    """Write samples (H, W, C) as PNG with chunks ahead of the pixels; grey and palettes may have less than 8 bits."""
    height, width, channels = samples.shape
    bits = bits or samples.itemsize * 8
    kind = 3 if palette else {1: 0, 2: 4, 3: 2, 4: 6}[channels]
    if bits < 8:
        unpacked = np.unpackbits(samples[..., 0, None].astype(np.uint8), axis=-1)[..., 8 - bits :]
        rows = np.packbits(unpacked.reshape(height, -1), axis=-1)
    else:
        rows = np.ascontiguousarray(samples, samples.dtype.newbyteorder(">")).view(np.uint8).reshape(height, -1)
    raw = b"".join(b"\0" + row.tobytes() for row in rows)
    header = (b"IHDR", struct.pack(">IIBBBBB", width, height, bits, kind, 0, 0, 0))
    body = [header, *chunks, (b"IDAT", zlib.compress(raw)), (b"IEND", b"")]
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data)) for name, data in body
    ))  # fmt: skip
    return path


def flat(*colour: int, dtype: type = np.uint8, size: int = 16) -> Pixels:
    """A picture (size, size, C) of one colour."""
    return np.full((size, size, len(colour)), colour, dtype)


def write_avif(path: Path, samples: Pixels, primaries: int, transfer: int, icc: bytes | None = None) -> Path:
    """Write an AVIF and set the codes in its box."""
    buffer = BytesIO()
    Image.fromarray(samples).save(buffer, "AVIF", quality=100, subsampling="4:4:4", icc_profile=icc)
    before = b"nclx" + (struct.pack(">2H", 1, 13) if icc is None else struct.pack(">2H", 2, 2))
    data = buffer.getvalue()
    assert data.count(before) == 1
    path.write_bytes(data.replace(before, b"nclx" + struct.pack(">2H", primaries, transfer)))
    return path


def write_heic(path: Path, samples: Pixels, primaries: int, transfer: int) -> Path:
    pillow_heif = pytest.importorskip("pillow_heif")
    pillow_heif.register_heif_opener()
    Image.fromarray(samples).save(
        path, "HEIF", quality=100, subsampling="4:4:4", color_primaries=primaries, transfer_characteristics=transfer
    )
    return path


def adobe_exif(color_space: int = 0xFFFF, index: str = "R03") -> bytes:
    """EXIF of a camera set to Adobe RGB."""
    tags = Image.Exif()
    tags[0x010F] = "A maker"
    tags.get_ifd(0x8769).update({0xA001: color_space, 0xA005: {1: index}})
    return tags.tobytes()


def write_bmp(path: Path, samples: Pixels, *, gamma: float | None = None, icc: bytes = b"") -> Path:
    """Write an 8-bit RGB BMP of version 5 with the primaries of Display P3 and a gamma, or with an embedded profile."""
    height, width, _ = samples.shape
    rows = np.zeros((height, (width * 3 + 3) // 4 * 4), np.uint8)
    rows[:, : width * 3] = samples[::-1, :, ::-1].reshape(height, -1)
    at = 14 + 124
    header = struct.pack("<IiiHHIIiiII16x", 124, width, height, 1, 24, 0, rows.size, 2835, 2835, 0, 0)
    header += struct.pack("<4s" if icc else "<I", b"DEBM" if icc else 0)
    ends = [(x, y, 1 - x - y) for x, y in ((0.68, 0.32), (0.265, 0.69), (0.15, 0.06))]
    header += struct.pack("<9i", *(round(v * 2**30) for end in ends for v in end))
    header += struct.pack("<3I", *[round((gamma or 1) * 65536)] * 3)
    header += struct.pack("<4I", 4, 124 + rows.size, len(icc), 0)
    path.write_bytes(struct.pack("<2sIHHI", b"BM", at + rows.size + len(icc), 0, 0, at) + header + rows.tobytes() + icc)
    return path
