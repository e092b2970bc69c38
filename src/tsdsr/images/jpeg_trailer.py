"""What Samsung's cameras append to a JPEG: motion photos, depth maps and sounds, behind the picture's end.

The file ends with a directory: ``SEFH``, version, number of entries; 12 bytes per entry (type, distance of the data
ahead of the directory, length); the directory's length and ``SEFT``. Data starts with its type and its name.
"""

from __future__ import annotations

import struct
from typing import BinaryIO

_MOST_ENTRIES = 200
_NAMES = {b"MotionPhoto": "video", b"DepthMap": "depth map", b"SoundShot": "sound"}


def trailer_contents(stream: BinaryIO) -> list[str]:
    """Return the names of the things in the trailer that belong to the picture; empty if there is no trailer."""
    end = stream.seek(0, 2)
    if end < 20:
        return []
    stream.seek(end - 8)
    length, mark = struct.unpack("<I4s", stream.read(8))
    start = end - 8 - length
    if mark != b"SEFT" or start < 0:
        return []
    stream.seek(start)
    directory = stream.read(min(length, 12 + 12 * _MOST_ENTRIES))
    found = []
    for at in range(12, len(directory) - 11, 12):
        distance = struct.unpack_from("<I", directory, at + 4)[0]
        if directory[:4] == b"SEFH" and distance <= start:
            stream.seek(start - distance)
            head = stream.read(64)
            found += [what for name, what in _NAMES.items() if name in head]
    return list(dict.fromkeys(found))
