"""Changes to an EXIF block in place: orientation, sizes, the thumbnail, and what it says about colours."""

from __future__ import annotations

import struct
from contextlib import suppress
from typing import NamedTuple

ORIENTATION, EXIF_IFD, GPS_IFD, INTEROPERABILITY_IFD = 0x0112, 0x8769, 0x8825, 0xA005
COLOR_SPACE, INTEROPERABILITY_INDEX = 0xA001, 0x0001
TRANSFER_FUNCTION, WHITE_POINT, PRIMARIES, GAMMA = 0x012D, 0x013E, 0x013F, 0xA500
_IMAGE_SIZE, _PIXEL_SIZE, _RELATED_SIZE = (0x0100, 0x0101), (0xA002, 0xA003), (0x1001, 0x1002)
_THUMBNAILS = ((0x0201, 0x0202), (0x0111, 0x0117))  # (offset tag, length tag)
_SUBJECTS = (0x9214, 0xA214)  # area and location
_SHORT, _LONG = 3, 4


def fit_exif(exif: bytes, width: int, height: int) -> bytes:
    """Update orientation, sizes and the position of the subject in an EXIF block, and erase its thumbnail.

    Entries are edited in place, so that other content, such as maker notes with absolute offsets, stays valid.

    Args:
        exif (bytes): the block, starting at its TIFF header.
        width, height (int): size of the picture it will describe.

    Raises:
        ValueError, struct.error: The block is damaged.
    """
    data, order = _block(exif)
    main, sub, related = _directories(data, order)
    sub = _move_subject(data, order, sub, _orientation(data, order, main), (width, height))
    if ORIENTATION in main.entries:
        struct.pack_into(order + "HIHH", data, main.entries[ORIENTATION] + 2, _SHORT, 1, 1, 0)
    for directory, names in ((main, _IMAGE_SIZE), (sub, _PIXEL_SIZE), (related, _RELATED_SIZE)):
        for tag, value in zip(names, (width, height), strict=True):
            if tag in directory.entries:
                struct.pack_into(order + "HII", data, directory.entries[tag] + 2, _LONG, 1, value)
    _drop_thumbnail(data, order, main.end)
    return bytes(data)


def declare_srgb(exif: bytes) -> bytes:
    """Let an EXIF block say that its picture is sRGB, where it says anything about colours.

    Args:
        exif (bytes): the block, starting at its TIFF header. A damaged block is returned unchanged.
    """
    try:
        data, order = _block(exif)
        main, sub, related = _directories(data, order)
        if COLOR_SPACE in sub.entries:
            struct.pack_into(order + "HIHH", data, sub.entries[COLOR_SPACE] + 2, _SHORT, 1, 1, 0)
        if INTEROPERABILITY_INDEX in related.entries:
            struct.pack_into("4s", data, related.entries[INTEROPERABILITY_INDEX] + 8, b"R98\0")
        for tag in (TRANSFER_FUNCTION, WHITE_POINT, PRIMARIES):
            main = _remove(data, order, main, tag)
        _remove(data, order, sub, GAMMA)
    except (struct.error, ValueError):
        return exif
    return bytes(data)


class _Directory(NamedTuple):
    """A directory: its position, that of each tag's entry, and that of the offset of the next directory."""

    at: int
    entries: dict[int, int]
    end: int


def _block(exif: bytes) -> tuple[bytearray, str]:
    """Return a block to edit and its byte order for :mod:`struct`."""
    data = bytearray(exif)
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(bytes(data[:4]))
    if order is None:
        raise ValueError("no TIFF header")
    return data, order


def _directories(data: bytearray, order: str) -> tuple[_Directory, _Directory, _Directory]:
    """Return the main directory, that of EXIF and that of interoperability; the last two may be empty."""
    sub = related = _Directory(0, {}, len(data))
    main = _directory(data, order, _value(data, order, 4))
    if EXIF_IFD in main.entries:
        sub = _directory(data, order, _value(data, order, main.entries[EXIF_IFD] + 8))
    if INTEROPERABILITY_IFD in sub.entries:
        with suppress(struct.error, ValueError):  # it holds nothing that a picture needs
            related = _directory(data, order, _value(data, order, sub.entries[INTEROPERABILITY_IFD] + 8))
    return main, sub, related


def _directory(data: bytearray, order: str, at: int) -> _Directory:
    (count,) = struct.unpack_from(order + "H", data, at)
    starts = [at + 2 + 12 * i for i in range(count)]
    if at + 2 + 12 * count > len(data):
        raise ValueError("a directory goes beyond the end")
    entries = {struct.unpack_from(order + "H", data, start)[0]: start for start in starts}
    return _Directory(at, entries, at + 2 + 12 * count)


def _value(data: bytearray, order: str, at: int) -> int:
    value: int = struct.unpack_from(order + "I", data, at)[0]
    return value


def _remove(data: bytearray, order: str, directory: _Directory, tag: int) -> _Directory:
    """Remove an entry. Those behind it move up, with the offset of the next directory; all else keeps its place."""
    if tag not in directory.entries:
        return directory
    start, end = directory.entries[tag], min(directory.end + 4, len(data))
    struct.pack_into(order + "H", data, directory.at, (directory.end - directory.at - 2) // 12 - 1)
    data[start:end] = data[start + 12 : end] + bytes(12)
    return _directory(data, order, directory.at)


def _orientation(data: bytearray, order: str, main: _Directory) -> int:
    if ORIENTATION not in main.entries:
        return 1
    value: int = struct.unpack_from(order + "H", data, main.entries[ORIENTATION] + 8)[0]
    return value if 1 <= value <= 8 else 1


def _move_subject(data: bytearray, order: str, sub: _Directory, orientation: int, size: tuple[int, int]) -> _Directory:
    """Express the position of the subject in pixels of an upright picture of ``size``, or remove it if it is unknown.

    The position is x and y, with a diameter or with a width and a height, in pixels of the stored picture (EXIF 3.0).
    """
    for tag in _SUBJECTS:
        if tag not in sub.entries:
            continue
        kind, count = struct.unpack_from(order + "HI", data, sub.entries[tag] + 2)
        old = [_number(data, order, sub.entries[name]) for name in _PIXEL_SIZE if name in sub.entries]
        across, down = old if len(old) == 2 and all(old) else (0, 0)
        scale = size[0] / max(1, down if orientation > 4 else across)
        proportional = abs((across if orientation > 4 else down) * scale - size[1]) <= max(2.0, size[1] / 100)
        at = sub.entries[tag] + 8 if count == 2 else _value(data, order, sub.entries[tag] + 8)
        if kind != _SHORT or count not in (2, 3, 4) or at + 2 * count > len(data) or not across or not proportional:
            sub = _remove(data, order, sub, tag)
            continue
        x, y, *extent = struct.unpack_from(f"{order}{count}H", data, at)
        x, y = across - x if orientation in (2, 3, 7, 8) else x, down - y if orientation in (3, 4, 6, 7) else y
        position = [y, x, *extent[::-1]] if orientation > 4 else [x, y, *extent]
        moved = [min(max(round(v * scale), 0), 65535) for v in position]
        struct.pack_into(f"{order}{count}H", data, at, *moved)
    return sub


def _number(data: bytearray, order: str, entry: int) -> int:
    """Return a number that is stored as SHORT or LONG."""
    short = struct.unpack_from(order + "H", data, entry + 2)[0] == _SHORT
    value: int = struct.unpack_from(order + ("H" if short else "I"), data, entry + 8)[0]
    return value


def _drop_thumbnail(data: bytearray, order: str, next_at: int) -> None:
    if next_at + 4 > len(data):  # some writers omit the offset
        return
    at = _value(data, order, next_at)
    struct.pack_into(order + "I", data, next_at, 0)
    if not at:
        return
    _, entries, end = _directory(data, order, at)
    for offset_tag, length_tag in _THUMBNAILS:
        if offset_tag in entries and length_tag in entries:
            start = _value(data, order, entries[offset_tag] + 8)
            stop = min(start + _value(data, order, entries[length_tag] + 8), len(data))
            if start > next_at and stop > start:
                data[start:stop] = bytes(stop - start)
                if stop >= len(data) - 3:  # the thumbnail is usually last in the block
                    del data[start:]
    if end <= len(data):
        data[at:end] = bytes(end - at)
