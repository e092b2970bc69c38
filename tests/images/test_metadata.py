from __future__ import annotations

import struct
from dataclasses import replace
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.images.pictures import SUFFIXES, XMP, exif, metadata, ramp, rgb, srgb_profile
from tsdsr.images.exif import fit_exif
from tsdsr.images.metadata import fitted
from tsdsr.images.picture import Metadata, Picture
from tsdsr.images.reading import read_picture
from tsdsr.images.writing import write_picture
from tsdsr.images.xmp import fit_xmp

HOLD = [suffix for suffix in SUFFIXES if suffix != ".bmp"]


def tags(block: bytes | None) -> tuple[dict[int, object], dict[int, object], dict[int, object]]:
    """The main, EXIF and GPS directories."""
    assert block is not None
    loaded = Image.Exif()
    loaded.load(block)
    return dict(loaded), dict(loaded.get_ifd(0x8769)), dict(loaded.get_ifd(0x8825))


@pytest.mark.parametrize("target", HOLD)
@pytest.mark.parametrize("source", HOLD)
def test_everything_is_kept_from_format_to_format(tmp_path: Path, source: str, target: str) -> None:
    write_picture(Picture(rgb(), None, metadata()), tmp_path / f"a{source}")
    first = read_picture(tmp_path / f"a{source}")
    doubled = replace(first, pixels=first.pixels.repeat(2, 0).repeat(2, 1))
    assert write_picture(doubled, tmp_path / f"b{target}") == ()
    found = read_picture(tmp_path / f"b{target}").metadata
    main, camera, place = tags(found.exif)
    assert (main[0x010F], main[0x8298], main.get(0x0112, 1)) == ("A maker", "somebody", 1)
    assert (camera[0xA002], camera[0xA003]) == (128, 96)
    assert float(camera[0x829A]) == 0.005  # type: ignore[arg-type]
    assert camera[0x927C] == b"maker's own \0\1"
    assert place == {1: "N", 2: (47.0, 22.0, 30.5)}
    assert found.icc == metadata().icc
    assert found.dpi == (300.0, 150.0)
    assert found.xmp == XMP.replace(b'"64"', b'"128"').replace(b">48<", b">96<")


def test_bmp_keeps_the_dpi(tmp_path: Path) -> None:
    write_picture(Picture(rgb(), None, Metadata(dpi=(300.0, 150.0))), tmp_path / "a.bmp")
    assert read_picture(tmp_path / "a.bmp").metadata == Metadata(dpi=(300.0, 150.0))


@pytest.mark.parametrize("suffix", HOLD)
def test_no_metadata_stays_none(tmp_path: Path, suffix: str) -> None:
    write_picture(Picture(rgb(), ramp() if suffix != ".jpg" else None), tmp_path / f"a{suffix}")
    assert read_picture(tmp_path / f"a{suffix}").metadata == Metadata()


@pytest.mark.parametrize("suffix", HOLD)
def test_a_lone_dpi_is_kept(tmp_path: Path, suffix: str) -> None:
    write_picture(Picture(rgb(), None, Metadata(dpi=(72.0, 72.0))), tmp_path / f"a{suffix}")
    assert read_picture(tmp_path / f"a{suffix}").metadata.dpi == (72.0, 72.0)


def with_thumbnail(order: str) -> bytes:
    """EXIF with orientation 6, an unknown tag and a thumbnail directory, built by hand."""
    thumbnail = b"\xff\xd8 a small picture \xff\xd9"
    main = struct.pack(order + "H", 2) + struct.pack(order + "HHIHH", 0x0112, 3, 1, 6, 0)
    main += struct.pack(order + "HHII", 0xC4A5, 7, 4, 0x01020304)
    second = 8 + len(main) + 4
    data_at = second + 2 + 24 + 4
    following = struct.pack(order + "H", 2) + struct.pack(order + "HHII", 0x0201, 4, 1, data_at)
    following += struct.pack(order + "HHII", 0x0202, 4, 1, len(thumbnail)) + bytes(4)
    head = (b"II" if order == "<" else b"MM") + struct.pack(order + "HI", 42, 8)
    return head + main + struct.pack(order + "I", second) + following + thumbnail


@pytest.mark.parametrize("order", ["<", ">"])
def test_exif_is_changed_in_place(order: str) -> None:
    block = with_thumbnail(order)
    result = fit_exif(block, 10, 20)
    assert b"small picture" not in result
    main, *_ = tags(result)
    assert main == {0x0112: 1, 0xC4A5: struct.pack(order + "I", 0x01020304)}
    loaded = Image.Exif()
    loaded.load(result)
    assert not loaded.get_ifd(1)


def test_the_thumbnail_is_gone_from_the_result_of_a_jpeg(tmp_path: Path) -> None:
    Image.fromarray(rgb()).save(tmp_path / "a.jpg", exif=b"Exif\0\0" + with_thumbnail(">"))
    picture = read_picture(tmp_path / "a.jpg")
    assert (picture.width, picture.height) == (48, 64)
    write_picture(picture, tmp_path / "b.jpg")
    content = (tmp_path / "b.jpg").read_bytes()
    assert b"small picture" in (tmp_path / "a.jpg").read_bytes()
    assert b"small picture" not in content
    assert Image.open(BytesIO(content)).getexif()[0x0112] == 1


@pytest.mark.parametrize("block", [b"", b"junk", b"II*\0\xff\xff\xff\xff", b"II*\0\x08\0\0\0\xff\xff"])
def test_damaged_exif_is_left_out_with_a_notice(block: bytes) -> None:
    found, notices = fitted(Metadata(exif=block), rgb())
    assert found == Metadata()
    assert "damaged" in notices[0]


def test_orientation_of_xmp_is_reset_in_both_spellings() -> None:
    packet = b"<a tiff:Orientation='8' b='tiff'/><tiff:Orientation>3</tiff:Orientation><exif:PixelXDimension>5<"
    assert fit_xmp(packet, 640, 480) == (
        b"<a tiff:Orientation='1' b='tiff'/><tiff:Orientation>1</tiff:Orientation><exif:PixelXDimension>640<"
    )


def test_an_orientation_that_only_xmp_names_is_applied(tmp_path: Path) -> None:
    Image.fromarray(rgb()).save(tmp_path / "a.webp", xmp=XMP.replace(b'Orientation="1"', b'Orientation="6"'))
    picture = read_picture(tmp_path / "a.webp")
    assert (picture.width, picture.height) == (48, 64)
    assert b'Orientation="1"' in (picture.metadata.xmp or b"")


def test_a_profile_of_another_kind_of_pixels_is_left_out(tmp_path: Path) -> None:
    Image.fromarray(rgb()).convert("L").save(tmp_path / "a.png", icc_profile=srgb_profile())
    picture = read_picture(tmp_path / "a.png")
    assert picture.metadata.icc is None
    assert "another kind" in picture.notices[0]
    Image.fromarray(rgb()).save(tmp_path / "b.png", icc_profile=b"nonsense")
    assert "damaged" in read_picture(tmp_path / "b.png").notices[0]


def test_an_array_shape_in_a_tiff_is_left_out_because_it_does_not_hold_any_more(tmp_path: Path) -> None:
    for text, kept in (('{"shape": [4, 4, 3]}', False), ("a lake", True)):
        Image.fromarray(rgb()).save(tmp_path / "a.tif", tiffinfo={270: text})
        exif = read_picture(tmp_path / "a.tif").metadata.exif
        assert (exif is not None and text.encode() in exif) == kept


def test_exif_with_values_of_wrong_types_does_not_stop_a_tiff(tmp_path: Path) -> None:
    block = bytearray(exif().tobytes().removeprefix(b"Exif\0\0"))
    at = block.index(struct.pack(">HH", 0x010F, 2))
    block[at + 3] = 12  # text becomes floating-point numbers
    picture = Picture(rgb(), None, Metadata(exif=bytes(block)))
    notices = write_picture(picture, tmp_path / "a.tif")
    assert np.array_equal(read_picture(tmp_path / "a.tif").pixels, rgb())
    assert all("EXIF" in notice for notice in notices)


# A subject at (10, 20) of 64 x 48 stored pixels, 6 wide and 4 high, in the upright picture.
UPRIGHT = {1: (10, 20), 2: (54, 20), 3: (54, 28), 4: (10, 28), 5: (20, 10), 6: (28, 10), 7: (28, 54), 8: (20, 54)}


@pytest.mark.parametrize("order", [b"II", b"MM"])
@pytest.mark.parametrize("orientation", UPRIGHT)
def test_the_subject_keeps_its_place_in_the_picture(orientation: int, order: bytes) -> None:
    template = exif(orientation)
    template.endian = "<" if order == b"II" else ">"
    template.get_ifd(0x8769).update({0x9214: (10, 20, 6, 4), 0xA214: (10, 20)})
    width, height = (48, 64) if orientation > 4 else (64, 48)
    block = template.tobytes().removeprefix(b"Exif\0\0")
    upright = fit_exif(block, width, height)
    extent = (4, 6) if orientation > 4 else (6, 4)
    _, camera, _ = tags(upright)
    assert (camera[0x9214], camera[0xA214]) == ((*UPRIGHT[orientation], *extent), UPRIGHT[orientation])
    _, camera, _ = tags(fit_exif(upright, 3 * width, 3 * height))
    assert camera[0x9214] == tuple(3 * v for v in (*UPRIGHT[orientation], *extent))
    _, camera, _ = tags(fit_exif(block, 500, 100))  # not the same picture
    assert not {0x9214, 0xA214} & set(camera)
    assert camera[0x927C] == b"maker's own \0\1"
