"""Directories of TIFF and BigTIFF files of both byte orders: where they are, and their EXIF as one block.

Pillow's reader does not know BigTIFF with the byte order of Motorola, and reads the directories of one page only.
tifffile follows directories that form a loop for ever.
"""

from __future__ import annotations

import struct
from typing import BinaryIO

from tsdsr.images.exif import EXIF_IFD, GPS_IFD, INTEROPERABILITY_IFD
from tsdsr.images.metadata import TIFF_STRUCTURE

_POINTERS = (EXIF_IFD, GPS_IFD, INTEROPERABILITY_IFD)
_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8}
_EIGHT_BYTES = {16: 4, 17: 9, 18: 13}  # BigTIFF's integers → their counterparts of 4 bytes
_MOST_DIRECTORIES, _MOST_ENTRIES, _MOST_BYTES = 1000, 2000, 1 << 22

_Entry = tuple[int, int, bytes]  # type, count, value
_Directory = dict[int, "_Entry | _Directory"]


def check_chain(stream: BinaryIO) -> None:
    """Check that the chain of directories ends.

    Raises:
        ValueError, struct.error: It is a loop, too long, or damaged.
    """
    source, seen = _Source(stream), set[int]()
    number, step, offset = ("Q", 20, "Q") if source.big else ("H", 12, "I")
    (position,) = source.at(8 if source.big else 4, offset)
    while position:
        if position in seen or len(seen) >= _MOST_DIRECTORIES:
            raise ValueError("the directories form a loop")
        seen.add(position)
        (count,) = source.at(position, number)
        (position,) = source.at(position + struct.calcsize(source.order + number) + count * step, offset)


def exif_block(stream: BinaryIO, positions: list[int]) -> bytes:
    """Copy the tags of TIFF directories, except those about the layout of the file, to a classic TIFF block.

    Args:
        stream (binary file): a TIFF or BigTIFF.
        positions (list of int): offsets of directories; of equal tags, the first counts.

    Returns:
        bytes: a block that begins with a TIFF header, as EXIF data do.

    Raises:
        ValueError, struct.error: The directories are damaged.
    """
    source = _Source(stream)
    merged: _Directory = {}
    for position in reversed(positions):
        merged |= {tag: e for tag, e in source.directory(position, depth=2).items() if tag not in TIFF_STRUCTURE}
    header = (b"II" if source.order == "<" else b"MM") + struct.pack(source.order + "HI", 42, 8)
    return header + _packed(merged, source.order, len(header))


class _Source:
    """A TIFF whose directories are read by position."""

    def __init__(self, stream: BinaryIO) -> None:
        self.stream = stream
        stream.seek(0)
        head = stream.read(4)
        self.order = "<" if head[:2] == b"II" else ">"
        self.big = struct.unpack(self.order + "H", head[2:4])[0] == 43

    def at(self, position: int, form: str) -> tuple[int, ...]:
        self.stream.seek(position)
        return struct.unpack(self.order + form, self.stream.read(struct.calcsize(self.order + form)))

    def directory(self, position: int, depth: int) -> _Directory:
        """Read a directory and, up to a depth, those that it points to."""
        number, step, inline = ("Q", 20, 8) if self.big else ("H", 12, 4)
        (count,) = self.at(position, number)
        if count > _MOST_ENTRIES:
            raise ValueError("a directory has too many entries")
        found: _Directory = {}
        for i in range(count):
            start = position + struct.calcsize(self.order + number) + i * step
            tag, kind, values = self.at(start, "HHQ" if self.big else "HHI")
            length = _SIZES.get(kind, 0) * values
            if not 0 < length <= _MOST_BYTES:
                continue
            place = start + step - inline
            if length > inline:
                (place,) = self.at(place, "Q" if self.big else "I")
            self.stream.seek(place)
            data = self.stream.read(length)
            if len(data) < length:
                raise ValueError("a value goes beyond the end")
            if tag in found:  # some writers repeat a tag
                continue
            if tag in _POINTERS:
                if depth:
                    (target,) = struct.unpack(self.order + ("I" if length == 4 else "Q"), data)
                    found[tag] = self.directory(target, depth - 1)
            elif kind in _EIGHT_BYTES:
                numbers = struct.unpack(f"{self.order}{values}Q", data)
                if max(numbers) < 2**32:
                    found[tag] = (_EIGHT_BYTES[kind], values, struct.pack(f"{self.order}{values}I", *numbers))
            else:
                found[tag] = (kind, values, data)
        return found


def _packed(directory: _Directory, order: str, start: int) -> bytes:
    """Pack a directory whose first byte is at ``start``, followed by its values and directories."""
    entries, behind = b"", b""
    values_at = start + 2 + 12 * len(directory) + 4
    for tag, entry in sorted(directory.items()):
        if isinstance(entry, dict):
            kind, count, data = 4, 1, _packed(entry, order, values_at + len(behind))
        else:
            kind, count, data = entry
        entries += struct.pack(order + "HHI", tag, kind, count)
        if isinstance(entry, dict) or len(data) > 4:
            entries += struct.pack(order + "I", values_at + len(behind))
            behind += data + bytes(len(data) % 2)
        else:
            entries += data.ljust(4, b"\0")
    return struct.pack(order + "H", len(directory)) + entries + bytes(4) + behind
