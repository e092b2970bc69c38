from __future__ import annotations

import random
import struct
from io import BytesIO
from pathlib import Path

import pytest

from tests.images.colored import flat, write_avif, write_heic
from tsdsr.images.av1 import av1_cicp
from tsdsr.images.isobmff import HeifInfo, read_heif_info
from tsdsr.images.reading import read_picture


def box(kind: bytes, *parts: bytes) -> bytes:
    body = b"".join(parts)
    return struct.pack(">I4s", 8 + len(body), kind) + body


def bits(*fields: tuple[int, int]) -> bytes:
    """Pack (value, width) into bytes."""
    text = "".join(f"{value:0{width}b}" for value, width in fields)
    return int(text.ljust(-(-len(text) // 8) * 8, "0"), 2).to_bytes(-(-len(text) // 8), "big")


COLOUR = [(0, 1), (0, 1), (1, 1), (12, 8), (13, 8), (6, 8), (1, 1)]  # 8 bits, not grey, described
SIZE = [(5, 4), (5, 4), (63, 6), (63, 6)]
REDUCED = bits((0, 3), (1, 1), (1, 1), (8, 5), *SIZE, (0, 3), (0, 3), *COLOUR)
FULL = bits(
    (0, 3), (0, 1), (0, 1), (1, 1), (1, 32), (25, 32), (1, 1), (0b00101, 5), (1, 1), (9, 5), (1, 32), (9, 5), (9, 5),
    (1, 1), (0, 5), (0, 12), (9, 5), (0, 1), (1, 1), (0, 10), (0, 10), (0, 1), (1, 1), (0, 4), *SIZE, (1, 1), (0, 7),
    (0, 3), (0, 4), (1, 1), (0, 2), (0, 1), (1, 1), (0, 1), (0, 1), (6, 3), (0, 3), *COLOUR,
)  # fmt: skip


def unit(header: bytes) -> bytes:
    return bytes((0x12, 0, 0x0A, len(header))) + header  # a temporal delimiter, then the sequence header


@pytest.mark.parametrize("header", [REDUCED, FULL], ids=["reduced", "full"])
def test_the_sequence_header_of_av1_holds_the_codes(header: bytes) -> None:
    assert av1_cicp(unit(header)) == (12, 13, 6, 1)
    assert av1_cicp(bytes((0x12, 0, 0x08)) + header) == (12, 13, 6, 1)  # without a length
    for end in range(len(header)):
        with pytest.raises(LookupError):
            av1_cicp(unit(header[:end]))
    assert av1_cicp(b"\x12\0") is None


def meta(*properties: bytes, own: tuple[int, ...], items: bytes = b"", references: bytes = b"") -> bytes:
    """A file of one main item, number 1."""
    listed = struct.pack(">II", 0, 1) + struct.pack(">HB", 1, len(own)) + bytes(own)
    return box(b"ftyp", b"avif", bytes(4)) + box(
        b"meta", bytes(4), box(b"hdlr", bytes(24)), box(b"pitm", bytes(4), b"\0\1"),
        box(b"iinf", bytes(4), b"\0\1", items), references,
        box(b"iprp", box(b"ipco", *properties), box(b"ipma", listed)),
    )  # fmt: skip


def nclx(primaries: int, transfer: int) -> bytes:
    return box(b"colr", b"nclx", struct.pack(">3HB", primaries, transfer, 6, 128))


def found(data: bytes) -> HeifInfo:
    return read_heif_info(BytesIO(data))


def test_the_main_item_counts_not_the_others() -> None:
    item = box(b"infe", b"\2\0\0\0", b"\0\1\0\0", b"av01", b"\0")
    data = meta(nclx(1, 13), nclx(12, 16), box(b"pixi", bytes(4), b"\3\x0a\x0a\x0a"), own=(0x82, 3), items=item)
    assert found(data) == HeifInfo((12, 16, 6, 1), 10)
    assert found(b"\0\0\0\x08free" + data) == HeifInfo((12, 16, 6, 1), 10)


def test_things_that_a_result_cannot_hold_are_named() -> None:
    apple = box(b"auxC", bytes(4), b"urn:com:apple:photo:2020:aux:hdrgainmap\0")
    depth = box(b"auxC", bytes(4), b"urn:mpeg:hevc:2015:auxid:2:depth\0")
    alpha = box(b"auxC", bytes(4), b"urn:mpeg:mpegB:cicp:systems:auxiliary:alpha\0")
    tone_map = box(b"infe", b"\2\0\0\0", b"\0\2\0\0", b"tmap", b"\0")
    assert found(meta(alpha, own=())).attached == ()
    assert found(meta(apple, depth, own=())).attached == ("gain map", "depth map")
    assert found(meta(alpha, own=(), items=tone_map)).attached == ("gain map",)
    assert found(meta(alpha, own=()) + box(b"mpvd", b"video")).attached == ("video",)


def test_an_avif_without_a_box_has_the_codes_in_its_stream(tmp_path: Path) -> None:
    path = write_avif(tmp_path / "a.avif", flat(9, 9, 9), 12, 13)
    data = path.read_bytes()
    assert found(data).cicp == (12, 13, 6, 1)
    assert found(data.replace(b"colrnclx", b"freenclx")).cicp == (1, 13, 6, 1)  # only the box was patched
    assert found(data).bits == 8


def test_ten_bits_are_noted(tmp_path: Path) -> None:
    path = write_avif(tmp_path / "a.avif", flat(9, 9, 9), 1, 13)
    path.write_bytes(path.read_bytes().replace(b"pixi\0\0\0\0\3\x08\x08\x08", b"pixi\0\0\0\0\3\x0a\x0a\x0a"))
    assert found(path.read_bytes()).bits == 10


def test_damaged_boxes_count_as_missing(tmp_path: Path) -> None:
    whole = [
        write_avif(tmp_path / "a.avif", flat(9, 9, 9), 12, 16).read_bytes(),
        write_heic(tmp_path / "a.heic", flat(9, 9, 9), 12, 13).read_bytes(),
        meta(nclx(9, 16), own=(1,)),
    ]
    chance = random.Random(0)
    for data in whole:
        for end in range(0, min(len(data), 500), 3):
            found(data[:end])
        for _ in range(300):
            damaged = bytearray(data)
            for _ in range(chance.randrange(1, 4)):
                damaged[chance.randrange(min(len(data), 400))] = chance.randrange(256)
            found(bytes(damaged))
    assert found(b"") == found(b"\0\0\0\0meta") == found(b"\xff" * 64) == HeifInfo()


def test_a_video_beside_the_picture_is_noted(tmp_path: Path) -> None:
    path = write_heic(tmp_path / "a.heic", flat(9, 9, 9), 1, 13)
    path.write_bytes(path.read_bytes() + box(b"mpvd", b"a video"))
    assert "left out: the file's video" in read_picture(path).notices
