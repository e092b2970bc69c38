"""Reading and writing of 16-bit images."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import tifffile

from tests.images.pictures import deep, ramp, rgb
from tsdsr.errors import ImageReadError, ImageTooLargeError
from tsdsr.images.picture import Picture, flattened, to_8_bits
from tsdsr.images.reading import read_picture
from tsdsr.images.writing import write_picture

RGB, ALPHA = deep(rgb()), deep(ramp(), 1)


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_png_of_another_writer(tmp_path: Path, channels: int) -> None:
    samples = {1: RGB[..., :1], 3: RGB, 4: np.dstack([RGB, ALPHA])}[channels]
    order = {1: [0], 3: [2, 1, 0], 4: [2, 1, 0, 3]}[channels]
    assert cv2.imwrite(str(tmp_path / "a.png"), samples[..., order])
    picture = read_picture(tmp_path / "a.png")
    assert np.array_equal(picture.pixels, samples[..., :3])
    assert (picture.alpha is None) if channels < 4 else np.array_equal(picture.alpha, ALPHA)


@pytest.mark.parametrize("kind", ["rgb", "rgba", "grey", "grey-alpha"])
def test_another_reader_reads_our_png_and_tiff(tmp_path: Path, kind: str) -> None:
    pixels = RGB if kind.startswith("rgb") else RGB[..., :1]
    picture = Picture(np.ascontiguousarray(pixels), ALPHA if kind in ("rgba", "grey-alpha") else None)
    samples = pixels if picture.alpha is None else np.dstack([pixels, ALPHA])
    for suffix in (".png", ".tif"):
        write_picture(picture, tmp_path / f"a{suffix}")
        back = read_picture(tmp_path / f"a{suffix}")
        assert np.array_equal(back.pixels, picture.pixels)
        assert (back.alpha is None) if picture.alpha is None else np.array_equal(back.alpha, ALPHA)
    assert np.array_equal(tifffile.imread(tmp_path / "a.tif"), samples.squeeze())
    theirs = cv2.imread(str(tmp_path / "a.png"), cv2.IMREAD_UNCHANGED)
    assert theirs is not None
    theirs = theirs.reshape(*theirs.shape[:2], -1)
    if kind == "grey-alpha":  # OpenCV makes BGRA of it
        theirs = theirs[..., 2:]
    assert np.array_equal(theirs, samples if len(samples[0, 0]) < 3 else samples[..., [2, 1, 0, 3][: samples.shape[2]]])


@pytest.mark.parametrize(
    "options",
    [
        {}, {"byteorder": ">"}, {"compression": "zlib"}, {"compression": "zlib", "predictor": True},
        {"compression": "zlib", "byteorder": ">"}, {"tile": (16, 16)}, {"tile": (16, 16), "compression": "zlib"},
        {"planarconfig": "separate"}, {"planarconfig": "separate", "compression": "zlib"}, {"bigtiff": True},
    ],
    ids=str,
)  # fmt: skip
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_tiff_of_another_writer(tmp_path: Path, options: dict[str, Any], channels: int) -> None:
    samples = np.dstack([RGB, ALPHA])[..., {1: [0], 2: [0, 3], 3: [0, 1, 2], 4: [0, 1, 2, 3]}[channels]]
    if channels == 1 and "planarconfig" in options:
        pytest.skip("one plane")
    if channels == 2 and "bigtiff" in options:
        pytest.skip("not supported")
    separate = "planarconfig" in options
    data = np.moveaxis(samples, -1, 0) if separate else samples.squeeze()
    extra = {"extrasamples": ["unassalpha"]} if channels in (2, 4) else {}
    layout = {} if separate or channels == 1 else {"planarconfig": "contig"}
    photometric = "rgb" if channels > 2 else "minisblack"
    tifffile.imwrite(tmp_path / "a.tif", data, photometric=photometric, **extra, **layout, **options)
    picture = read_picture(tmp_path / "a.tif")
    assert np.array_equal(picture.pixels, samples[..., : 3 if channels > 2 else 1])
    assert (picture.alpha is None) if channels in (1, 3) else np.array_equal(picture.alpha, ALPHA)


def test_colours_stored_multiplied_by_alpha_are_divided(tmp_path: Path) -> None:
    alpha = np.maximum(ALPHA, 4096)
    stored = (RGB.astype(np.uint64) * alpha[..., None] // 65535).astype(np.uint16)
    tifffile.imwrite(tmp_path / "a.tif", np.dstack([stored, alpha]), photometric="rgb", extrasamples=["assocalpha"])
    picture = read_picture(tmp_path / "a.tif")
    assert np.abs(picture.pixels.astype(int) - RGB).max() <= 16  # a step of the stored value at the lowest alpha


def test_white_is_zero_and_twelve_bits(tmp_path: Path) -> None:
    grey = RGB[..., 0]
    tifffile.imwrite(tmp_path / "a.tif", 65535 - grey, photometric="miniswhite")
    assert np.array_equal(read_picture(tmp_path / "a.tif").pixels[..., 0], grey)


def test_one_transparent_colour(tmp_path: Path) -> None:
    from tests.images.test_fuzz import fuzz

    write_picture(Picture(RGB[:1]), tmp_path / "a.png")
    content = (tmp_path / "a.png").read_bytes()
    at = content.index(b"IDAT") - 4
    colour = RGB[0, 5].astype(">u2").tobytes()
    (tmp_path / "a.png").write_bytes(content[:at] + fuzz().chunk(b"tRNS", colour) + content[at:])
    alpha = read_picture(tmp_path / "a.png").alpha
    assert alpha is not None
    assert np.array_equal(alpha[0] == 0, (RGB[0] == RGB[0, 5]).all(-1))


def test_unsupported_kinds_are_rejected(tmp_path: Path) -> None:
    tifffile.imwrite(
        tmp_path / "a.tif", np.zeros((4, 4, 7), np.uint16), photometric="minisblack", planarconfig="contig"
    )
    with pytest.raises(ImageReadError, match=r"a\.tif"):
        read_picture(tmp_path / "a.tif")
    tifffile.imwrite(tmp_path / "b.tif", np.zeros((2, 4, 4), np.uint16), photometric="minisblack")
    with pytest.raises(ImageReadError, match=r"b\.tif.*2 frames or pages"):
        read_picture(tmp_path / "b.tif")
    two = np.dstack([RGB[..., 0], ALPHA])
    tifffile.imwrite(tmp_path / "c.tif", two, photometric="minisblack", planarconfig="contig")
    with pytest.raises(ImageTooLargeError, match=r"c\.tif.*--max-pixels"):
        read_picture(tmp_path / "c.tif", max_pixels=100)


def test_rounding_to_8_bits_and_flattening() -> None:
    values = np.arange(65536, dtype=np.uint16).reshape(256, 256)
    assert np.array_equal(to_8_bits(values), np.rint(values / 257).astype(np.uint8))
    pixels, alpha = RGB.astype(float), ALPHA[..., None] / 65535
    assert np.abs(flattened(RGB, ALPHA) - (pixels * alpha + 65535 * (1 - alpha))).max() <= 0.51
