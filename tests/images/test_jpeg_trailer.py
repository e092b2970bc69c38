from __future__ import annotations

import random
import struct
from io import BytesIO
from pathlib import Path

from PIL import Image

from tests.images.pictures import rgb
from tsdsr.images.jpeg_trailer import trailer_contents
from tsdsr.images.reading import read_picture


def trailer(**blocks: bytes) -> bytes:
    """The blocks, and a directory of them."""
    data, starts = b"", []
    for name, body in blocks.items():
        starts.append(len(data))
        data += struct.pack("<HHI", 0, 0x0A30, len(name)) + name.encode() + body
    directory = b"SEFH" + struct.pack("<II", 107, len(starts))
    for start, stop in zip(starts, [*starts[1:], len(data)], strict=True):
        directory += struct.pack("<HHII", 0, 0x0A30, len(data) - start, stop - start)
    return data + directory + struct.pack("<I", len(directory)) + b"SEFT"


def test_a_motion_photo_without_xmp_is_noted(tmp_path: Path) -> None:
    Image.fromarray(rgb()).save(tmp_path / "a.jpg")
    plain = (tmp_path / "a.jpg").read_bytes()
    assert read_picture(tmp_path / "a.jpg").notices == ()
    for blocks, expected in (
        ({"Image_UTC_Data": b"1"}, ()),
        ({"Image_UTC_Data": b"1", "MotionPhoto_Data": b"\0\0\0\x18ftypmp42"}, ("left out: the file's video",)),
        ({"DualShot_DepthMap_1": b"1", "SoundShot_000": b"2"}, ("left out: the file's depth map, sound",)),
    ):
        (tmp_path / "b.jpg").write_bytes(plain + trailer(**blocks))
        assert read_picture(tmp_path / "b.jpg").notices == expected


def test_damaged_trailers_are_ignored() -> None:
    whole = bytes(100) + trailer(MotionPhoto_Data=b"video")
    assert trailer_contents(BytesIO(whole)) == ["video"]
    chance = random.Random(0)
    for _ in range(500):
        damaged = bytearray(whole)
        damaged[chance.randrange(100, len(whole))] = chance.randrange(256)
        trailer_contents(BytesIO(damaged[chance.randrange(120) :]))
    assert trailer_contents(BytesIO(b"SEFT")) == trailer_contents(BytesIO(b"\xff" * 30 + b"SEFT")) == []
