from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageCms

from tests.images.pictures import deep, ramp, rgb, srgb_profile
from tsdsr.images.icc import to_srgb
from tsdsr.images.picture import Metadata, Picture, to_8_bits


def profile(curve: bytes, space: bytes = b"RGB ") -> bytes:
    """A display profile of Adobe RGB's primaries (or of grey) with one tone curve."""
    names = [b"rXYZ", b"gXYZ", b"bXYZ", b"rTRC", b"gTRC", b"bTRC"] if space == b"RGB " else [b"kTRC"]
    columns = [(0.60974, 0.31111, 0.01947), (0.20528, 0.62567, 0.06087), (0.14919, 0.06322, 0.74457)]
    bodies = [b"XYZ \0\0\0\0" + struct.pack(">3i", *(round(v * 65536) for v in column)) for column in columns]
    bodies = (bodies if space == b"RGB " else []) + [curve.ljust(-len(curve) % 4 + len(curve), b"\0")] * len(names)
    white = b"XYZ \0\0\0\0" + struct.pack(">3i", 63190, 65536, 54061)
    entries = [*zip(names, bodies, strict=False), (b"wtpt", white)]
    table, data, at = b"", b"", 132 + 12 * len(entries)
    for name, body in entries:
        table += struct.pack(">4sII", name, at + len(data), len(body))
        data += body
    size = at + len(data)
    head = struct.pack(">I4sI4s4s4s", size, b"lcms", 0x02400000, b"mntr", space, b"XYZ ")
    head += struct.pack(">6H4s", 2020, 1, 1, 0, 0, 0, b"acsp")
    head = head.ljust(68, b"\0") + struct.pack(">3i", 63190, 65536, 54061)
    return head.ljust(128, b"\0") + struct.pack(">I", len(entries)) + table + data


CURVES = {
    "linear": b"curv\0\0\0\0" + struct.pack(">I", 0),
    "power": b"curv\0\0\0\0" + struct.pack(">IH", 1, 563),
    "table": b"curv\0\0\0\0" + struct.pack(">I", 256) + (np.linspace(0, 1, 256) ** 1.8 * 65535).astype(">u2").tobytes(),
    "para0": b"para\0\0\0\0" + struct.pack(">Hxxi", 0, round(2.2 * 65536)),
    "para1": b"para\0\0\0\0" + struct.pack(">Hxx3i", 1, *(round(v * 65536) for v in (2.0, 0.9, 0.1))),
    "para2": b"para\0\0\0\0" + struct.pack(">Hxx4i", 2, *(round(v * 65536) for v in (2.0, 0.9, 0.05, 0.02))),
    "para3": b"para\0\0\0\0"
    + struct.pack(">Hxx5i", 3, *(round(v * 65536) for v in (2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045))),
    "para4": b"para\0\0\0\0"
    + struct.pack(">Hxx7i", 4, *(round(v * 65536) for v in (2.2, 0.95, 0.05, 0.07, 0.05, 0.0, 0.0))),
}


@pytest.mark.parametrize("curve", CURVES)
@pytest.mark.parametrize("space", [b"RGB ", b"GRAY"])
def test_sixteen_bits_agree_with_littlecms_at_eight(curve: str, space: bytes) -> None:
    pixels = rgb() if space == b"RGB " else rgb()[..., :1].copy()
    icc = profile(CURVES[curve], space)
    shallow = to_srgb(Picture(pixels, None, Metadata(icc=icc)))
    full = to_srgb(Picture(pixels.astype(np.uint16) * 257, None, Metadata(icc=icc)))
    assert shallow.metadata.icc is None is full.metadata.icc
    assert full.pixels.dtype == np.uint16
    difference = np.abs(to_8_bits(full.pixels).astype(int) - shallow.pixels)
    # LittleCMS itself is off by so much for grey with dark, steep curves.
    assert difference.max() <= (2 if space == b"RGB " else 12)
    assert difference.mean() < 0.5
    identity = space == b"GRAY" and curve == "para3"  # sRGB's own curve
    assert identity or np.abs(shallow.pixels.astype(int) - pixels).max() > 3  # something happened at all


def test_a_ramp_keeps_its_levels() -> None:
    levels = np.linspace(0, 65535, 4096).astype(np.uint16).reshape(64, 64, 1).repeat(3, 2)
    result = to_srgb(Picture(levels, None, Metadata(icc=profile(CURVES["power"]))))
    assert len(np.unique(result.pixels[..., 1])) > 4000


def test_srgb_to_srgb_changes_nothing_and_alpha_stays() -> None:
    alpha = deep(ramp())
    result = to_srgb(Picture(deep(rgb()), alpha, Metadata(icc=srgb_profile())))
    assert np.abs(result.pixels.astype(int) - deep(rgb())).max() < 60
    assert result.alpha is alpha
    plain = Picture(rgb())
    assert to_srgb(plain) is plain


@pytest.mark.parametrize("damage", ["tables", "unknown", "cut"])
def test_a_profile_that_cannot_be_applied_is_kept_with_a_notice(damage: str) -> None:
    icc = profile(CURVES["power"])
    if damage == "tables":
        icc = icc.replace(b"wtpt", b"A2B0", 1)
    elif damage == "unknown":
        icc = icc.replace(b"curv", b"what")
    else:
        icc = icc[:200]
    picture = to_srgb(Picture(deep(rgb()), None, Metadata(icc=icc)))
    assert picture.metadata.icc == icc
    assert "is kept" in picture.notices[0]
    assert np.array_equal(picture.pixels, deep(rgb()))


def test_cmyk_and_lab(tmp_path: Path) -> None:
    from tsdsr.images.icc import device_to_srgb

    image = Image.fromarray(rgb())
    lab = ImageCms.profileToProfile(image, ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB"),
                                    outputMode="LAB")  # fmt: skip
    assert lab is not None
    convert, _ = device_to_srgb("LAB", None)
    assert np.abs(np.asarray(convert(lab), dtype=int) - rgb()).mean() < 2
