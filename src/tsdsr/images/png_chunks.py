"""The small chunks of a PNG before its pixels, some of which Pillow does not read."""

from __future__ import annotations

import struct
from typing import BinaryIO

_WANTED = (b"IHDR", b"cICP", b"iCCP", b"sRGB", b"gAMA", b"cHRM", b"tRNS")
_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_MOST_CHUNKS, _MOST_BYTES = 10_000, 1024


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
