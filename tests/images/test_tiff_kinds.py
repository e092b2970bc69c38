"""TIFF files of other programs: layouts, pages, and the kinds that are refused by name."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image

from tests.images.pictures import deep, ramp, rgb
from tsdsr.errors import ImageReadError
from tsdsr.images.picture import Pixels
from tsdsr.images.reading import read_picture, read_rgb, read_size

RGB8, RGB16 = rgb(), deep(rgb())
SAMPLES = {"rgb8": RGB8, "rgb16": RGB16, "grey8": RGB8[..., 1].copy(), "grey16": RGB16[..., 1].copy()}


def read_exactly(path: Path, expected: Pixels, *notices: str) -> None:
    picture = read_picture(path)
    found = picture.pixels if picture.alpha is None else np.dstack([picture.pixels, picture.alpha])
    assert np.array_equal(found.squeeze(), expected)
    assert found.dtype == expected.dtype
    assert picture.notices == notices
    assert read_size(path) == (picture.width, picture.height)


@pytest.mark.parametrize("kind", SAMPLES)
@pytest.mark.parametrize("byteorder", ["<", ">"])
@pytest.mark.parametrize("bigtiff", [False, True])
@pytest.mark.parametrize("layout", [{}, {"tile": (16, 32)}, {"rowsperstrip": 7}], ids=["strip", "tiles", "strips"])
@pytest.mark.parametrize("compression", [None, "zlib"])
def test_byte_orders_bigtiff_tiles_and_planes(
    tmp_path: Path, kind: str, byteorder: Any, bigtiff: bool, layout: dict[str, Any], compression: str | None
) -> None:
    data = SAMPLES[kind]
    for separate in (False, True) if kind.startswith("rgb") else (False,):
        planes: dict[str, Any] = {"planarconfig": "separate" if separate else "contig"} if data.ndim == 3 else {}
        tifffile.imwrite(
            tmp_path / "a.tif", np.moveaxis(data, -1, 0) if separate else data, byteorder=byteorder, bigtiff=bigtiff,
            photometric="rgb" if data.ndim == 3 else "minisblack", compression=compression, **planes, **layout,
        )  # fmt: skip
        read_exactly(tmp_path / "a.tif", data)


@pytest.mark.parametrize("kind", SAMPLES)
@pytest.mark.parametrize("compression", ["tiff_lzw", "packbits", "tiff_adobe_deflate", "zstd", "lzma"])
def test_compressions_of_libtiff(tmp_path: Path, kind: str, compression: str) -> None:
    data = SAMPLES[kind]
    if kind == "rgb16":
        pytest.skip("Pillow cannot write it")
    Image.fromarray(data).save(tmp_path / "a.tif", compression=compression)
    read_exactly(tmp_path / "a.tif", data)


def test_fax_and_jpeg(tmp_path: Path) -> None:
    bilevel = Image.fromarray(RGB8).convert("1")
    for compression in ("group3", "group4", "tiff_ccitt"):
        bilevel.save(tmp_path / "a.tif", compression=compression)
        read_exactly(tmp_path / "a.tif", np.asarray(bilevel.convert("L")), "1-bit black and white is converted to grey")
    Image.fromarray(RGB8).save(tmp_path / "a.tif", compression="jpeg", quality=95)
    assert np.abs(read_picture(tmp_path / "a.tif").pixels.astype(int) - RGB8).mean() < 4


@pytest.mark.parametrize("bits", ["8", "16"])
@pytest.mark.parametrize("bigtiff", [False, True])
@pytest.mark.parametrize("byteorder", ["<", ">"])
@pytest.mark.parametrize("separate", [False, True])
@pytest.mark.parametrize("colours", [1, 3])
def test_extra_samples(tmp_path: Path, bits: str, bigtiff: bool, byteorder: Any, separate: bool, colours: int) -> None:
    pixels = (RGB8 if bits == "8" else RGB16)[..., :colours]
    alpha = ramp() if bits == "8" else deep(ramp(), 1)
    samples = np.dstack([pixels, alpha])
    for meaning in ("unassalpha", "unspecified"):
        tifffile.imwrite(
            tmp_path / "a.tif", np.moveaxis(samples, -1, 0) if separate else samples, bigtiff=bigtiff,
            byteorder=byteorder, photometric="rgb" if colours == 3 else "minisblack", extrasamples=[meaning],
            planarconfig="separate" if separate else "contig",
        )  # fmt: skip
        picture = read_picture(tmp_path / "a.tif")
        assert np.array_equal(picture.pixels, pixels)
        assert (picture.alpha is None) == (meaning == "unspecified")
        assert picture.alpha is None or np.array_equal(picture.alpha, alpha)


@pytest.mark.parametrize("kind", ["grey8", "grey16"])
@pytest.mark.parametrize("byteorder", ["<", ">"])
@pytest.mark.parametrize("compression", [None, "zlib"])
def test_white_is_zero(tmp_path: Path, kind: str, byteorder: Any, compression: str | None) -> None:
    data = SAMPLES[kind]
    tifffile.imwrite(
        tmp_path / "a.tif", np.iinfo(data.dtype).max - data, photometric="miniswhite", byteorder=byteorder,
        compression=compression,
    )  # fmt: skip
    read_exactly(tmp_path / "a.tif", data)
    assert np.abs(read_rgb(tmp_path / "a.tif")[..., 0].astype(int) - RGB8[..., 1]).max() <= 1


@pytest.mark.parametrize("bigtiff", [False, True])
@pytest.mark.parametrize("byteorder", ["<", ">"])
@pytest.mark.parametrize("separate", [False, True])
def test_metadata_of_bigtiff_and_planes_are_kept(tmp_path: Path, bigtiff: bool, byteorder: Any, separate: bool) -> None:
    tifffile.imwrite(
        tmp_path / "a.tif", np.moveaxis(RGB16, -1, 0) if separate else RGB16, photometric="rgb", bigtiff=bigtiff,
        planarconfig="separate" if separate else "contig", byteorder=byteorder, description="A view of the lake",
        datetime="2021:05:06 07:08:09", resolution=(300, 300), resolutionunit="INCH",
        extratags=[(315, "s", 0, "An artist", True), (700, "B", 4, b"<x/>", True)],
    )  # fmt: skip
    picture = read_picture(tmp_path / "a.tif")
    assert picture.notices == ()
    tags = Image.Exif()
    tags.load(picture.metadata.exif or b"")
    assert (tags[270], tags[306], tags[315]) == ("A view of the lake", "2021:05:06 07:08:09", "An artist")
    assert (picture.metadata.dpi, picture.metadata.xmp) == ((300.0, 300.0), b"<x/>")


def write_pages(path: Path, *pages: tuple[Pixels, int], **options: Any) -> None:
    """Write pages, each with its NewSubfileType."""
    with tifffile.TiffWriter(path, **options) as file:
        for pixels, kind in pages:
            colour = pixels.ndim == 3
            file.write(pixels, photometric="rgb" if colour else "minisblack", subfiletype=kind & ~4)
    for number, (_, kind) in enumerate(pages):
        with tifffile.TiffFile(path, mode="r+b") as file:
            file.pages[number].tags[254].overwrite(kind)  # type: ignore[union-attr]


@pytest.mark.parametrize("pixels", [RGB8, RGB16], ids=["8", "16"])
@pytest.mark.parametrize("bigtiff", [False, True])
def test_thumbnails_and_masks_are_no_pages(tmp_path: Path, pixels: Pixels, bigtiff: bool) -> None:
    small, path, big = pixels[::4, ::4], tmp_path / "a.tif", {"bigtiff": bigtiff}
    write_pages(path, (pixels, 0), (small, 1), **big)
    read_exactly(path, pixels)
    write_pages(path, (small, 1), (small[::2], 1), (pixels, 0), **big)
    read_exactly(path, pixels)
    write_pages(path, (pixels, 0), (ramp(), 4), (small, 1), (ramp()[::4, ::4], 5), **big)
    read_exactly(path, pixels, "the transparency mask in the file is left out")
    write_pages(path, (small, 1), **big)  # the only one
    read_exactly(path, small)
    for kinds in ((0, 0), (2, 2), (0, 1, 0)):
        write_pages(path, *((pixels, kind) for kind in kinds), **big)
        with pytest.raises(ImageReadError, match=r"a\.tif: has 2 frames or pages; extract the one you want"):
            read_picture(path)


def test_a_photograph_behind_its_thumbnail_keeps_the_first_pages_tags(tmp_path: Path) -> None:
    for pixels in (RGB8, RGB16):
        with tifffile.TiffWriter(tmp_path / "a.tif") as file:
            file.write(
                pixels[::4, ::4], photometric="rgb", subfiletype=1,
                extratags=[(315, "s", 0, "An artist", True), (274, "H", 1, 6, True)],
            )  # fmt: skip
            file.write(pixels, photometric="rgb", extratags=[(274, "H", 1, 6, True)])
        picture = read_picture(tmp_path / "a.tif")
        assert np.array_equal(picture.pixels, np.rot90(pixels, -1))
        assert read_size(tmp_path / "a.tif") == (picture.width, picture.height)
        tags = Image.Exif()
        tags.load(picture.metadata.exif or b"")
        assert tags[315] == "An artist"


def test_a_photograph_in_a_subdirectory_is_read(tmp_path: Path) -> None:
    with tifffile.TiffWriter(tmp_path / "a.tif") as file:
        file.write(RGB8[::4, ::4], photometric="rgb", subfiletype=1, subifds=1)
        file.write(RGB8, photometric="rgb")
    read_exactly(tmp_path / "a.tif", RGB8)


@pytest.mark.parametrize("dtype", ["int8", "int16", "int32", "uint32", "uint64", "float16", "float32", "float64"])
@pytest.mark.parametrize("colours", [1, 3])
@pytest.mark.parametrize("byteorder", ["<", ">"])
def test_samples_without_a_usual_range_are_refused_from_the_header(
    tmp_path: Path, dtype: str, colours: int, byteorder: Any
) -> None:
    values = (RGB8[..., :colours] / 2).astype(dtype).squeeze()
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, values, photometric="rgb" if colours == 3 else "minisblack", byteorder=byteorder)
    holds = "floating-point values" if "float" in dtype else f"integers of {dtype.strip('uint')} bits"
    sign = "" if dtype[0] in "uf" else " with a sign"
    for read in (read_picture, read_rgb, read_size):
        with pytest.raises(ImageReadError) as caught:
            read(path)
        assert str(caught.value) == f"{path}: contains {holds}{sign}; convert it to 8 or 16 bits first"


def test_other_kinds_are_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, np.dstack([RGB8, ramp(), ramp()]), photometric="separated", extrasamples=["unassalpha"])
    with pytest.raises(ImageReadError, match=r"a\.tif: contains 5 channels of 8 bits \(CMYK\).*convert it to RGB"):
        read_picture(path)
    tifffile.imwrite(path, RGB8[None, :2].repeat(2, 0), photometric="rgb", volumetric=True, tile=(2, 16, 16))
    with pytest.raises(ImageReadError, match=r"a\.tif: is a volume of 2 slices"):
        read_picture(path)


def test_compressions_that_need_a_package_name_it(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, RGB16, photometric="rgb")
    with tifffile.TiffFile(path, mode="r+b") as file:
        file.pages.first.tags[259].overwrite(34712)
    try:
        import imagecodecs  # noqa: F401
    except ImportError:
        with pytest.raises(
            ImageReadError, match=r"a\.tif: is a TIFF of 16 bits.*JPEG2000.*needs imagecodecs.*\[tiff\]"
        ):
            read_picture(path)


def test_cmyk_of_16_bits_says_that_8_are_used(tmp_path: Path) -> None:
    cmyk = np.asarray(Image.fromarray(RGB8).convert("CMYK")).astype(np.uint16) * 257
    tifffile.imwrite(tmp_path / "a.tif", cmyk, photometric="separated")
    picture = read_picture(tmp_path / "a.tif")
    assert "16 bits are read as 8" in picture.notices
    assert np.abs(picture.pixels.astype(int) - RGB8).mean() < 3


def _raw(path: Path, make: str, main: dict[str, Any]) -> None:
    """Write what cameras write: a small picture first, and the sensor's values in a subdirectory."""
    with tifffile.TiffWriter(path) as file:
        file.write(RGB8[::4, ::4], photometric="rgb", subfiletype=1, subifds=1, extratags=[(271, "s", 0, make, True)])
        file.write(RGB16[..., 1], **main)


@pytest.mark.parametrize("suffix", [".nef", ".tif"])
def test_raw_files_are_not_read_as_their_thumbnail(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a{suffix}"
    sensor = {"photometric": "cfa", "extratags": [(33421, "H", 2, (2, 2), True), (33422, "B", 4, b"\0\1\1\2", True)]}
    _raw(path, "NIKON CORPORATION", sensor)
    with pytest.raises(ImageReadError, match="is a camera's raw file; develop it with a raw converter"):
        read_picture(path)
    tifffile.imwrite(path, RGB8, photometric="rgb", extratags=[(50706, "B", 4, b"\1\4\0\0", True)])  # DNG
    with pytest.raises(ImageReadError, match="is a camera's raw file"):
        read_size(path)
    Image.fromarray(RGB8).save(path, format="TIFF")
    content = path.read_bytes()
    moved = content[:4] + struct.pack("<I", 16) + b"CR\2\0" + bytes(4) + content[8:]  # Canon's mark behind the header
    path.write_bytes(moved)
    with pytest.raises(ImageReadError, match="is a camera's raw file"):
        read_picture(path)
