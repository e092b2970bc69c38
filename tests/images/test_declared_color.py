from __future__ import annotations

import struct
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageCms

from tests.images.colored import (
    P3_CHRM,
    SRGB_CHRM,
    adobe_exif,
    chrm,
    cicp,
    flat,
    gama,
    iccp,
    write_avif,
    write_bmp,
    write_heic,
    write_png,
)
from tests.images.pictures import SUFFIXES, srgb_profile
from tsdsr.images.color_spaces import ADOBE_RGB, ColorSpace
from tsdsr.images.icc import to_srgb
from tsdsr.images.picture import Picture
from tsdsr.images.reading import read_picture, read_rgb
from tsdsr.images.writing import write_picture

# The red of sRGB in other spaces: Display P3 and Adobe RGB as CSS Color 4 and Adobe give it, BT.2020 by BT.2087.
RED = {"p3": (234, 51, 35), "adobe": (219, 0, 0), "bt2020": (207, 74, 34)}
P3_GREEN = (117, 251, 76)


def seen(picture: Picture) -> tuple[int, ...]:
    """The first pixel in sRGB, as a program with colour management shows the picture."""
    if picture.metadata.icc is None:
        return tuple(int(v) for v in picture.pixels[0, 0])
    profile = ImageCms.ImageCmsProfile(BytesIO(picture.metadata.icc))
    shown = ImageCms.profileToProfile(
        Image.fromarray(picture.pixels), profile, ImageCms.createProfile("sRGB"),
        renderingIntent=ImageCms.Intent.RELATIVE_COLORIMETRIC,
    )  # fmt: skip
    assert shown is not None
    return tuple(int(v) for v in np.asarray(shown)[0, 0])


def near(found: tuple[int, ...], expected: tuple[int, ...], tolerance: int = 3) -> bool:
    return len(found) == len(expected) and max(abs(a - b) for a, b in zip(found, expected, strict=True)) <= tolerance


WIDE: dict[str, tuple[Callable[[Path], Path], tuple[int, ...]]] = {
    "cICP of Display P3": (lambda p: write_png(p / "a.png", flat(*RED["p3"]), cicp(12, 13)), (255, 0, 0)),
    "its green": (lambda p: write_png(p / "a.png", flat(*P3_GREEN), cicp(12, 13)), (0, 255, 0)),
    "cICP of BT.2020": (lambda p: write_png(p / "a.png", flat(*RED["bt2020"]), cicp(9, 14)), (255, 0, 0)),
    "cHRM alone": (lambda p: write_png(p / "a.png", flat(*RED["p3"]), chrm()), (255, 0, 0)),
    "cHRM and gAMA 2.2": (lambda p: write_png(p / "a.png", flat(*RED["p3"]), gama(2.2), chrm()), (255, 0, 0)),
    "cICP wins over all": (
        lambda p: write_png(p / "a.png", flat(*RED["p3"]), cicp(12, 13), iccp(srgb_profile()), gama(1)), (255, 0, 0),
    ),
    "AVIF": (lambda p: write_avif(p / "a.avif", flat(*RED["p3"]), 12, 13), (255, 0, 0)),
    "AVIF of BT.2020": (lambda p: write_avif(p / "a.avif", flat(*RED["bt2020"]), 9, 1), (255, 0, 0)),
    "AVIF whose ICC profile wins": (
        lambda p: write_avif(p / "a.avif", flat(*RED["adobe"]), 1, 13, ADOBE_RGB.profile()), (255, 0, 0),
    ),
    "HEIC": (lambda p: write_heic(p / "a.heic", flat(*RED["p3"]), 12, 13), (255, 0, 0)),
    "EXIF R03": (lambda p: saved(p / "a.jpg", RED["adobe"], quality=100, exif=adobe_exif()), (255, 0, 0)),
    "EXIF 2": (lambda p: saved(p / "a.jpg", RED["adobe"], quality=100, exif=adobe_exif(2, "")), (255, 0, 0)),
    "EXIF in PNG": (lambda p: saved(p / "a.png", RED["adobe"], exif=adobe_exif()), (255, 0, 0)),
    "EXIF in WebP": (lambda p: saved(p / "a.webp", RED["adobe"], lossless=True, exif=adobe_exif()), (255, 0, 0)),
    "TIFF": (lambda p: saved(p / "a.tif", RED["p3"], tiffinfo=tiff_tags()), (255, 0, 0)),
    "BMP": (lambda p: write_bmp(p / "a.bmp", flat(*RED["p3"]), gamma=2.2), (255, 0, 0)),
    "BMP with a profile": (
        lambda p: write_bmp(p / "a.bmp", flat(*RED["adobe"]), icc=ADOBE_RGB.profile()), (255, 0, 0),
    ),
}  # fmt: skip


def saved(path: Path, colour: tuple[int, ...], **options: Any) -> Path:
    Image.fromarray(flat(*colour)).save(path, **options)
    return path


def tiff_tags(exponent: float | None = None) -> dict[int, Any]:
    white, corners = (v / 100_000 for v in P3_CHRM[:2]), (v / 100_000 for v in P3_CHRM[2:])
    tags: dict[int, Any] = {318: tuple(white), 319: tuple(corners)}
    if exponent is not None:
        tags = {301: tuple(round(65535 * (i / 255) ** exponent) for i in range(256))}
    return tags


@pytest.mark.parametrize("kind", WIDE)
def test_wide_colours_are_kept_with_a_profile_and_converted_on_request(tmp_path: Path, kind: str) -> None:
    write, expected = WIDE[kind]
    picture = read_picture(write(tmp_path))
    assert picture.metadata.icc is not None
    assert near(seen(picture), expected), kind
    converted = to_srgb(picture)
    assert converted.metadata.icc is None
    assert near(seen(converted), expected)
    # Training and scoring use values as stored.
    stored = read_rgb(next(tmp_path.iterdir()))
    assert near(tuple(int(v) for v in stored[0, 0]), tuple(int(v) for v in picture.pixels[0, 0]), 0)


CURVES: dict[str, tuple[Callable[[Path], Path], int]] = {
    "gAMA of linear values": (lambda p: write_png(p / "a.png", flat(128, 128, 128), gama(1)), 188),
    "in grey": (lambda p: write_png(p / "a.png", flat(128), gama(1)), 188),
    "gAMA of 1.8": (lambda p: write_png(p / "a.png", flat(128, 128, 128), gama(1.8), chrm(SRGB_CHRM)), 146),
    "gAMA of 2.2 is that of sRGB": (lambda p: write_png(p / "a.png", flat(128, 128, 128), gama(2.2)), 128),
    "cICP of linear values": (lambda p: write_png(p / "a.png", flat(128, 128, 128), cicp(1, 8)), 188),
    "cICP of narrow range": (lambda p: write_png(p / "a.png", flat(126, 126, 126), cicp(1, 13, 0, 0)), 128),
    "AVIF": (lambda p: write_avif(p / "a.avif", flat(128, 128, 128), 1, 8), 188),
    "HEIC": (lambda p: write_heic(p / "a.heic", flat(128, 128, 128), 1, 8), 188),
    "table of a TIFF": (lambda p: saved(p / "a.tif", (128, 128, 128), tiffinfo=tiff_tags(1.0)), 188),
    "table close to that of sRGB": (lambda p: saved(p / "a.tif", (128, 128, 128), tiffinfo=tiff_tags(2.2)), 128),
    "sRGB wins over gAMA": (lambda p: write_png(p / "a.png", flat(128, 128, 128), (b"sRGB", b"\0"), gama(1)), 128),
    "cICP wins over sRGB": (
        lambda p: write_png(p / "a.png", flat(128, 128, 128), cicp(1, 8), (b"sRGB", b"\0")), 188,
    ),
    "sRGB in cICP": (lambda p: write_png(p / "a.png", flat(128, 128, 128), cicp(1, 13), gama(1)), 128),
    "nothing in cICP": (lambda p: write_png(p / "a.png", flat(128, 128, 128), cicp(2, 2), gama(1)), 188),
}  # fmt: skip


@pytest.mark.parametrize("kind", CURVES)
def test_other_curves_become_that_of_srgb(tmp_path: Path, kind: str) -> None:
    write, expected = CURVES[kind]
    path = write(tmp_path)
    picture = read_picture(path)
    assert picture.metadata.icc is None
    assert abs(int(picture.pixels[0, 0, 0]) - expected) <= (1 if path.suffix in (".avif", ".heic") else 0)
    stored = int(read_rgb(path)[0, 0, 0])
    changed = abs(stored - expected) > 1
    assert any("tone curve" in notice for notice in picture.notices) == changed
    for suffix in SUFFIXES:  # the result does not declare the old curve
        again = tmp_path / f"again{suffix}"
        write_picture(picture, again)
        assert abs(int(read_picture(again).pixels[0, 0, 0]) - expected) <= 2


def test_icc_wins_over_gamma_and_srgb_itself_needs_no_word(tmp_path: Path) -> None:
    icc = ADOBE_RGB.profile()
    picture = read_picture(write_png(tmp_path / "a.png", flat(90, 80, 70), iccp(icc), gama(1), chrm()))
    assert picture.metadata.icc == icc
    assert picture.notices == ()
    plain = [
        write_png(tmp_path / "b.png", flat(90, 80, 70), gama(2.2), chrm(SRGB_CHRM)),
        write_png(tmp_path / "c.png", flat(90, 80, 70), (b"sRGB", b"\0"), gama(2.2), chrm(SRGB_CHRM)),
        write_png(tmp_path / "d.png", flat(90, 80, 70), cicp(1, 13)),
        write_avif(tmp_path / "e.avif", flat(90, 80, 70), 1, 13),
        write_avif(tmp_path / "f.avif", flat(90, 80, 70), 1, 1),
        saved(tmp_path / "g.jpg", (90, 80, 70), exif=adobe_exif(1, "R98")),
        saved(tmp_path / "h.jpg", (90, 80, 70), exif=adobe_exif(0xFFFF, "")),
    ]
    for path in plain:
        picture = read_picture(path)
        assert (picture.metadata.icc, picture.notices) == (None, ()), path


@pytest.mark.parametrize(
    ("chunk", "word"),
    [
        (cicp(3, 13), "primaries 3"),
        (cicp(12, 99), "99"),
        (cicp(12, 13, 9), "matrix"),
        (gama(1e5), "gamma"),
        ((b"gAMA", bytes(4)), "gamma"),
        (chrm((0,) * 8), "primaries"),
        (chrm((31270, 32900, 64000, 33000, 64000, 33000, 64000, 33000)), "triangle"),
    ],
)
def test_what_cannot_be_used_is_said(tmp_path: Path, chunk: tuple[bytes, bytes], word: str) -> None:
    picture = read_picture(write_png(tmp_path / "a.png", flat(90, 80, 70), chunk))
    assert len(picture.notices) == 1
    assert "not used" in picture.notices[0]
    assert word in picture.notices[0]
    assert (picture.pixels == (90, 80, 70)).all()
    assert picture.metadata.icc is None


def test_sixteen_bits_palettes_and_alpha_follow_the_curve(tmp_path: Path) -> None:
    deep = read_picture(write_png(tmp_path / "a.png", flat(32768, 32768, 32768, dtype=np.uint16), gama(1)))
    assert abs(int(deep.pixels[0, 0, 0]) - 48199) < 20  # 1.055 · 0.5**(1/2.4) - 0.055
    colours = (b"PLTE", bytes((0, 0, 0, 128, 128, 128)))
    palette = read_picture(write_png(tmp_path / "b.png", flat(1), colours, gama(1), bits=1, palette=True))
    assert tuple(palette.pixels[0, 0]) == (188, 188, 188)
    clear = read_picture(write_png(tmp_path / "c.png", flat(128, 128, 128, 128), gama(1)))
    assert tuple(clear.pixels[0, 0]) == (188, 188, 188)
    assert clear.alpha is not None
    assert clear.alpha[0, 0] == 128


def test_exif_says_srgb_once_the_pixels_are(tmp_path: Path) -> None:
    picture = to_srgb(read_picture(saved(tmp_path / "a.jpg", RED["adobe"], exif=adobe_exif())))
    tags = Image.Exif()
    tags.load(picture.metadata.exif or b"")
    assert tags[0x010F] == "A maker"
    assert tags.get_ifd(0x8769)[0xA001] == 1
    assert tags.get_ifd(0xA005)[1] == "R98"
    for suffix in SUFFIXES:
        write_picture(picture, tmp_path / f"b{suffix}")
        assert near(seen(read_picture(tmp_path / f"b{suffix}")), (255, 0, 0))


def test_gamma_in_exif_is_removed_with_the_curve(tmp_path: Path) -> None:
    tags = Image.Exif()
    tags[0x010F], tags[0x0131] = "A maker", "A program"
    tags.get_ifd(0x8769).update({0xA001: 0xFFFF, 0xA500: 1.0, 0xA002: 16})
    path = saved(tmp_path / "a.png", (128, 128, 128), exif=tags.tobytes())
    picture = read_picture(path)
    assert tuple(picture.pixels[0, 0]) == (188, 188, 188)
    found = Image.Exif()
    found.load(picture.metadata.exif or b"")
    assert dict(found.get_ifd(0x8769)) == {0xA001: 1, 0xA002: 16}
    assert (found[0x010F], found[0x0131]) == ("A maker", "A program")


def test_a_missing_directory_raises_in_older_pillow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tags, get_ifd = Image.Exif(), Image.Exif.get_ifd
    tags.get_ifd(0x8769).update({0xA001: 0xFFFF, 0xA500: 1.0})
    path = saved(tmp_path / "a.png", (128, 128, 128), exif=tags.tobytes())

    def older(self: Image.Exif, tag: int) -> dict[int, Any]:
        found = get_ifd(self, tag)
        if tag == 0xA005 and not found:
            raise KeyError(tag)  # Pillow before 13
        return found

    monkeypatch.setattr(Image.Exif, "get_ifd", older)
    assert tuple(read_picture(path).pixels[0, 0]) == (188, 188, 188)


def test_formats_without_profiles_get_srgb(tmp_path: Path) -> None:
    picture = read_picture(write_png(tmp_path / "a.png", flat(*RED["p3"]), cicp(12, 13)))
    assert any("converted to sRGB" in notice for notice in write_picture(picture, tmp_path / "a.bmp"))
    assert near(seen(read_picture(tmp_path / "a.bmp")), (255, 0, 0))


def test_a_damaged_chunk_or_tag_changes_nothing(tmp_path: Path) -> None:
    for chunk in ((b"cICP", b"\x0c"), (b"cICP", b"")):
        picture = read_picture(write_png(tmp_path / "a.png", flat(90, 80, 70), chunk))
        assert (picture.metadata.icc, tuple(picture.pixels[0, 0])) == (None, (90, 80, 70))
    tags = {318: (0.3, 0.3), 319: (0.6, 0.3)}
    assert read_picture(saved(tmp_path / "a.tif", (90, 80, 70), tiffinfo=tags)).metadata.icc is None
    bad = bytearray(write_bmp(tmp_path / "b.bmp", flat(90, 80, 70), icc=b"x" * 300).read_bytes())
    struct.pack_into("<2I", bad, 14 + 112, 2**31, 2**31)
    (tmp_path / "b.bmp").write_bytes(bad)
    assert read_picture(tmp_path / "b.bmp").metadata.icc is None


def test_all_profiles_of_code_points_are_read_by_littlecms() -> None:
    for primaries in (4, 5, 6, 7, 8, 9, 10, 11, 12, 22):
        icc = ColorSpace.of_cicp(primaries, 13).profile()
        picture = Picture(np.ascontiguousarray(flat(255, 255, 255)))
        profile = ImageCms.ImageCmsProfile(BytesIO(icc))
        shown = ImageCms.profileToProfile(Image.fromarray(picture.pixels), profile, ImageCms.createProfile("sRGB"))
        assert shown is not None
        assert np.asarray(shown).min() >= 254  # white stays white
