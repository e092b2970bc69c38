"""Sizes that a format cannot hold are refused before anything is computed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from tests.images.pictures import SUFFIXES, deep, metadata, ramp, rgb
from tsdsr.errors import ImageWriteError, InvalidInputError
from tsdsr.images import tiff
from tsdsr.images.picture import Picture
from tsdsr.images.reading import read_picture
from tsdsr.images.writing import check_size, write_picture


@pytest.mark.parametrize(
    ("suffix", "fits", "words"),
    [
        (".jpg", (65500, 4), "JPEG can store at most 65500 pixels per side"),
        (".webp", (16383, 4), "WebP can store at most 16383 pixels per side"),
        (".avif", (32768, 4), "AVIF can store at most 32768 pixels per side"),
        (".heic", (65528, 32), "HEIC can store at most 65528 pixels per side"),
        (".heic", (4216, 31), "a HEIC narrower than 32 pixels can have at most 4216 on its long side"),
    ],
)
def test_the_largest_image_is_written_and_the_next_is_refused(
    tmp_path: Path, suffix: str, fits: tuple[int, int], words: str
) -> None:
    if suffix not in SUFFIXES:
        pytest.skip(f"no codec for {suffix}")
    for turned in (False, True):
        long, short = fits
        shape = (long, short) if turned else (short, long)
        path = tmp_path / f"a{suffix}"
        write_picture(Picture(np.full((*shape, 3), 128, np.uint8)), path)
        assert read_picture(path).pixels.shape == (*shape, 3)
        size = (short, long + 1) if turned else (long + 1, short)
        with pytest.raises(ImageWriteError) as caught:
            check_size(path, *size)
        assert str(caught.value) == f"{path}: {words}, but the result has {size[0]}x{size[1]}; write PNG or TIFF"
        with pytest.raises(ImageWriteError, match="write PNG or TIFF"):
            write_picture(Picture(np.zeros((size[1], size[0], 3), np.uint8)), path)


def test_limits_of_the_area_and_formats_by_name() -> None:
    check_size("AVIF", 16384, 16384)
    with pytest.raises(ImageWriteError, match=r"^AVIF: AVIF can store at most 268435456 pixels"):
        check_size("AVIF", 16400, 16384)
    check_size("BMP", 30000, 47721)
    with pytest.raises(ImageWriteError, match="a BMP can take at most 4 GB"):
        check_size("BMP", 30000, 47722)
    for name in ("PNG", "TIFF"):
        check_size(name, 1_000_000, 100_000)
    with pytest.raises(InvalidInputError, match="unknown image suffix"):
        check_size("a.xyz", 1, 1)


@pytest.mark.parametrize("kind", ["rgb", "grey-alpha"])
def test_a_large_tiff_is_a_bigtiff(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    monkeypatch.setattr(tiff, "_CLASSIC_BYTES", 1000)
    pixels, alpha = (deep(rgb()), None) if kind == "rgb" else (rgb()[..., :1], ramp())
    path = tmp_path / "a.tif"
    write_picture(Picture(np.ascontiguousarray(pixels), alpha, metadata()), path)
    with tifffile.TiffFile(path) as file:
        assert file.is_bigtiff
        samples = pixels if alpha is None else np.dstack([pixels, alpha])
        assert np.array_equal(file.pages.first.asarray(), samples)
    back = read_picture(path)
    assert np.array_equal(back.pixels, pixels)
    assert back.notices == ()
    tags = Image.Exif()
    tags.load(back.metadata.exif or b"")
    assert tags[0x010F] == "A maker"
    assert tags.get_ifd(0x8825)[2] == (47.0, 22.0, 30.5)
    assert (back.metadata.xmp, back.metadata.dpi) == (metadata().xmp, metadata().dpi)
    assert kind != "rgb" or back.metadata.icc == metadata().icc
