"""The colour description of AVIF and HEIC files, which Pillow does not report.

The files are boxes within boxes (ISO/IEC 14496-12). The box ``meta`` lists items and their properties (ISO/IEC
23008-12): ``colr`` holds code points of ITU-T H.273, ``av1C``, ``hvcC`` and ``pixi`` the bit depth. Every length is
checked against its surroundings.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import BinaryIO

from tsdsr.images.av1 import av1_cicp

_MOST_BOXES, _MOST_META, _MOST_HEADER = 1000, 1 << 24, 256
_AUXILIARY = {
    "gain map": (b"hdrgainmap", b":gainmap"),
    "depth map": (b"depth", b"disparity"),
    "matte": (b"matte",),
}
"""Words in the type of an auxiliary picture, and what it is."""


@dataclass(frozen=True)
class HeifInfo:
    """What the boxes of a file say about its main picture.

    Attributes:
        cicp (tuple | None): colour primaries, transfer characteristics, matrix coefficients, full range flag.
        bits (int): bits per sample; 0 if no box says it.
        attached (tuple of str): names of the other things in the file that belong to the picture.
    """

    cicp: tuple[int, int, int, int] | None = None
    bits: int = 0
    attached: tuple[str, ...] = ()


def read_heif_info(stream: BinaryIO) -> HeifInfo:
    """Read the colour description of the main picture of an AVIF or HEIC.

    Args:
        stream (binary file): at the start of the file. Damaged boxes count as missing.
    """
    meta, movie = _top_level(stream)
    info = HeifInfo(attached=("video",) if movie else ())
    with suppress(struct.error, LookupError):
        parts = dict(reversed(list(_boxes(meta[4:]))))
        info = _info(parts, movie)
        at = _position(parts) if info.cicp is None else None
        if at is not None:  # the stream says it if no box does
            stream.seek(at)
            info = replace(info, cicp=av1_cicp(stream.read(_MOST_HEADER)))
    return info


def _top_level(stream: BinaryIO) -> tuple[bytes, bool]:
    """Return the content of the box ``meta``, and whether there is a motion photo's video (``mpvd``)."""
    meta, movie = b"", False
    for kind, start, end in top_boxes(stream):
        if kind == b"meta" and not meta and end - start <= _MOST_META:
            stream.seek(start)
            meta = stream.read(end - start)
        movie = movie or kind == b"mpvd"
    return meta, movie


def top_boxes(stream: BinaryIO) -> Iterator[tuple[bytes, int, int]]:
    """Yield the type of each box of a file, and where its content begins and ends, up to the first damaged box.

    Args:
        stream (binary file): the file; the position may be changed in between.
    """
    last = stream.seek(0, 2)
    at = 0
    for _ in range(_MOST_BOXES):
        stream.seek(at)
        head = stream.read(16)
        if len(head) < 8:
            break
        size, kind = struct.unpack_from(">I4s", head)
        start = at + 8
        if size == 1 and len(head) == 16:
            (size,), start = struct.unpack_from(">Q", head, 8), at + 16
        size = size or last - at
        if size < start - at or at + size > last:
            break
        yield kind, start, at + size
        at += size


def _boxes(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yield type and content of the boxes in a box."""
    at = 0
    while at + 8 <= len(data):
        size, kind = struct.unpack_from(">I4s", data, at)
        size = size or len(data) - at
        if size < 8 or at + size > len(data):
            return
        yield kind, data[at + 8 : at + size]
        at += size


def _info(parts: dict[bytes, bytes], movie: bool) -> HeifInfo:
    properties = dict(_boxes(parts[b"iprp"]))
    listed = list(_boxes(properties[b"ipco"]))
    of_items = _associations(properties[b"ipma"])
    own = [listed[i - 1] for item in _items(parts) for i in of_items.get(item, []) if 0 < i <= len(listed)]
    cicp, bits = None, 0
    for kind, body in own:
        if kind == b"colr" and body[:4] == b"nclx" and cicp is None:
            primaries, transfer, matrix = struct.unpack_from(">3H", body, 4)
            cicp = (primaries, transfer, matrix, body[10] >> 7)
        elif kind == b"pixi" and not bits:
            bits = max(body[5 : 5 + body[4]])
        elif kind == b"av1C":
            bits = bits or (8, 10, 8, 12)[body[2] >> 5 & 3]
            cicp = cicp or av1_cicp(body[4:])
        elif kind == b"hvcC":
            bits = bits or 8 + (body[17] & 7)
    return HeifInfo(cicp, bits, tuple(_attached(listed, parts.get(b"iinf", b""), movie)))


def _number(data: bytes, at: int, size: int) -> int:
    number = data[at : at + size]
    if len(number) < size:
        raise LookupError("a number beyond the end")
    return int.from_bytes(number, "big")


def _items(parts: dict[bytes, bytes]) -> list[int]:
    """Return the main item and, if it is a grid, its first tile, to which a grid may leave its description."""
    main = _number(parts[b"pitm"], 4, 2 if parts[b"pitm"][0] == 0 else 4)
    return [main, *_tiles(parts.get(b"iref", b""), main)[:1]]


def _position(parts: dict[bytes, bytes]) -> int | None:
    """Return where the coded picture of the main item or of its first tile starts, if it is AV1 and in the file."""
    item, iloc = _items(parts)[-1], parts[b"iloc"]
    if item not in _av1_items(parts[b"iinf"]):
        return None
    offset_size, length_size, base_size = iloc[4] >> 4, iloc[4] & 15, iloc[5] >> 4
    version, index_size = iloc[0], iloc[5] & 15 if iloc[0] else 0
    number_size = 4 if version == 2 else 2
    at = 6 + number_size
    for _ in range(_number(iloc, 6, number_size)):
        number, at = _number(iloc, at, number_size), at + number_size
        method = _number(iloc, at, 2) & 15 if version else 0
        at += 4 if version else 2
        base, extents = _number(iloc, at, base_size), _number(iloc, at + base_size, 2)
        at += base_size + 2
        if number == item and extents and method == 0:
            return base + _number(iloc, at + index_size, offset_size)
        at += extents * (index_size + offset_size + length_size)
    return None


def _av1_items(iinf: bytes) -> set[int]:
    return {item for item, kind in _item_kinds(iinf) if kind == b"av01"}


def _item_kinds(iinf: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield number and type of each item."""
    for kind, body in _boxes(iinf[8 if iinf[:1] > b"\0" else 6 :]):
        if kind == b"infe" and body[:1] in (b"\2", b"\3"):
            size = 2 if body[0] == 2 else 4
            yield _number(body, 4, size), body[6 + size : 10 + size]


def _associations(ipma: bytes) -> dict[int, list[int]]:
    """Map each item to the numbers of its properties, from 1 on."""
    item_size, index_size = (4 if ipma[0] else 2), (2 if ipma[3] & 1 else 1)
    at, found = 8, {}
    for _ in range(_number(ipma, 4, 4)):
        item, count = _number(ipma, at, item_size), _number(ipma, at + item_size, 1)
        at += item_size + 1
        last = (1 << 8 * index_size - 1) - 1
        found[item] = [_number(ipma, at + i * index_size, index_size) & last for i in range(count)]
        at += count * index_size
    return found


def _tiles(iref: bytes, main: int) -> list[int]:
    """Return the items from which the main one is derived."""
    if not iref:
        return []
    size = 4 if iref[0] else 2
    for kind, body in _boxes(iref[4:]):
        if kind == b"dimg" and _number(body, 0, size) == main:
            return [_number(body, size + 2 + i * size, size) for i in range(_number(body, size, 2))]
    return []


def _attached(listed: list[tuple[bytes, bytes]], iinf: bytes, movie: bool) -> Iterator[str]:
    kinds = b" ".join(body[4:].lower() for kind, body in listed if kind == b"auxC")
    tone_map = any(kind == b"tmap" for _, kind in _item_kinds(iinf))  # ISO 21496-1
    for name, words in _AUXILIARY.items():
        if any(word in kinds for word in words) or (name == "gain map" and tone_map):
            yield name
    if movie:
        yield "video"
