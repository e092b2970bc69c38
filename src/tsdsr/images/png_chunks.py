"""The small chunks of a PNG, some of which Pillow does not read, or not without decoding the pixels."""

from __future__ import annotations

import struct
import zlib
from typing import BinaryIO

_WANTED = (b"IHDR", b"cICP", b"iCCP", b"sRGB", b"gAMA", b"cHRM", b"tRNS")
_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_MOST_CHUNKS, _MOST_BYTES = 10_000, 1024
_ORIENTED = (b"eXIf", b"tEXt", b"zTXt", b"iTXt")
"""Chunks in which Pillow finds an orientation."""
_MOST_TEXT = 2**24


def read_chunks(stream: BinaryIO) -> dict[bytes, bytes]:
    """Return the chunks that say how pixel values are meant, by type; of long ones the first 1024 bytes.

    Args:
        stream (binary file): at the start of the file. What is no PNG has no chunks.
    """
    found: dict[bytes, bytes] = {}
    if stream.read(8) != _SIGNATURE:
        return found
    for _ in range(_MOST_CHUNKS):
        head = stream.read(8)
        if len(head) < 8 or head[4:] in (b"IDAT", b"IEND"):
            break
        length, kind = struct.unpack(">I4s", head)
        body = stream.read(min(length, _MOST_BYTES)) if kind in _WANTED else b""
        if kind in _WANTED:
            found.setdefault(kind, body)
        stream.seek(length - len(body) + 4, 1)
    return found


def without_pixels(stream: BinaryIO) -> bytes:
    """Return a PNG of one grey pixel with the EXIF data and texts of another, which may also follow its pixels.

    Args:
        stream (binary file): a PNG, at its start.
    """
    header, pixel = struct.pack(">IIBBBBB", 1, 1, 8, 0, 0, 0, 0), zlib.compress(b"\0\0")
    found, size = [stream.read(8), _chunk(b"IHDR", header)], 0
    while len(found) < _MOST_CHUNKS:
        head = stream.read(8)
        if len(head) < 8 or head[4:] == b"IEND":
            break
        length, kind = struct.unpack(">I4s", head)
        if kind in _ORIENTED and size + length <= _MOST_TEXT:
            found.append(head + stream.read(length + 4))
            size += length
        else:
            stream.seek(length + 4, 1)
    return b"".join([*found, _chunk(b"IDAT", pixel), _chunk(b"IEND", b"")])


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
