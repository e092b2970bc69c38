from __future__ import annotations

import os
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import skimage.data
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from tests.images.pictures import LOSSLESS, SUFFIXES, deep, kinds, metadata, ramp, rgb
from tsdsr.errors import ImageWriteError, InvalidInputError
from tsdsr.images import writing
from tsdsr.images.formats import FORMATS
from tsdsr.images.picture import Picture
from tsdsr.images.reading import read_picture, read_rgb, read_size
from tsdsr.images.writing import WriteOptions, write_picture

KINDS = kinds()
EXACT = (".png", ".tif")
DEEP = (*EXACT, ".jxl")
ALPHA = (".png", ".tif", ".webp", ".avif", ".heic", ".jxl")
GREY = (".png", ".tif", ".bmp", ".jpg", ".heic", ".jxl")


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_makes_the_round_trip(tmp_path: Path, suffix: str, kind: str) -> None:
    picture, path = KINDS[kind], tmp_path / "new" / f"photo{suffix.upper()}"
    notices = write_picture(picture, path)
    back = read_picture(path)
    transparent, sixteen = picture.alpha is not None, picture.max_value > 255
    assert len(notices) == (transparent and suffix not in ALPHA) + (sixteen and suffix not in DEEP)
    assert (back.alpha is not None) == (transparent and suffix in ALPHA)
    assert (back.max_value > 255) == (sixteen and suffix in DEEP)
    if picture.grey:
        stays = suffix in GREY and not (suffix == ".heic" and transparent)
        assert back.grey == stays
        assert (back.pixels == back.pixels[..., :1]).mean() > 0.95  # no tint
    if suffix in LOSSLESS and back.max_value == picture.max_value and not (transparent and suffix == ".bmp"):
        assert np.array_equal(back.pixels, picture.pixels)
        assert not transparent or np.array_equal(back.alpha, picture.alpha)  # type: ignore[arg-type]
    else:
        expected = np.asarray(picture.to_image(), dtype=int)
        error = np.asarray(back.to_image(), dtype=int) - expected
        assert np.abs(error).mean() < (5 if suffix in (".webp", ".jxl") else 3)  # with less colour than luminance
    assert [p.name for p in path.parent.iterdir()] == [path.name]


@settings(max_examples=40, deadline=None)
@given(
    width=st.integers(1, 40),
    height=st.integers(1, 40),
    channels=st.sampled_from([1, 3]),
    bits=st.sampled_from([8, 16]),
    alpha=st.booleans(),
    suffix=st.sampled_from([s for s in SUFFIXES if s != ".heic"]),
    seed=st.integers(0, 2**31),
)
def test_any_picture_is_written_and_read(
    width: int, height: int, channels: int, bits: int, alpha: bool, suffix: str, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    dtype = np.uint8 if bits == 8 else np.uint16
    pixels = rng.integers(0, 2**bits, (height, width, channels), dtype=dtype)
    picture = Picture(pixels, rng.integers(0, 2**bits, (height, width), dtype=dtype) if alpha else None, metadata())
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"a{suffix}"
        write_picture(picture, path)
        back = read_picture(path)
    assert (back.width, back.height) == (width, height)
    if suffix in EXACT:
        assert np.array_equal(back.pixels, pixels)
        assert (back.alpha is None) if picture.alpha is None else np.array_equal(back.alpha, picture.alpha)  # type: ignore[arg-type]
        assert back.pixels.dtype == dtype


def test_photographs_of_scikit_image_survive(tmp_path: Path) -> None:
    for name in ("coffee", "camera", "rocket", "logo", "horse"):
        array = np.asarray(getattr(skimage.data, name)())
        image = Image.fromarray(array)
        image.save(tmp_path / f"{name}.png")
        picture = read_picture(tmp_path / f"{name}.png")
        for suffix in EXACT:
            write_picture(picture, tmp_path / f"again{suffix}")
            again = read_picture(tmp_path / f"again{suffix}")
            assert np.array_equal(again.pixels, picture.pixels)
            with Image.open(tmp_path / f"again{suffix}") as theirs:  # Pillow reads the same out of our files
                assert np.array_equal(np.asarray(theirs), np.asarray(image.convert("L") if name == "horse" else image))


def test_webp_without_loss_keeps_colours_under_transparency(tmp_path: Path) -> None:
    picture = Picture(rgb(), ramp())
    write_picture(picture, tmp_path / "a.webp", WriteOptions(lossless=True))
    back = read_picture(tmp_path / "a.webp")
    assert np.array_equal(back.pixels, picture.pixels)
    assert back.alpha is not None
    assert np.array_equal(back.alpha, ramp())


def test_quality_subsampling_and_compression_do_what_they_say(tmp_path: Path) -> None:
    def size(suffix: str, **options: Any) -> int:
        write_picture(Picture(rgb(160, 120)), tmp_path / f"a{suffix}", WriteOptions(**options))
        return (tmp_path / f"a{suffix}").stat().st_size

    for suffix in (".jpg", ".webp"):
        assert size(suffix, quality=40) < size(suffix, quality=80) < size(suffix)
    assert size(".jpg", subsampling="420") < size(".jpg", subsampling="422") < size(".jpg")
    with Image.open(tmp_path / "a.jpg") as image:
        assert [layer[1:3] for layer in image.layer] == [(1, 1)] * 3  # type: ignore[attr-defined]
    for suffix in EXACT:
        assert size(suffix, compression=9) <= size(suffix) < size(suffix, compression=0)


@pytest.mark.parametrize(
    "options", [{"quality": 0}, {"quality": 101}, {"subsampling": "411"}, {"compression": 10}, {"compression": -1}]
)
def test_options_out_of_range(options: dict[str, Any]) -> None:
    with pytest.raises(InvalidInputError, match=next(iter(options))):
        WriteOptions(**options)


def test_what_a_format_cannot_hold_is_noticed(tmp_path: Path) -> None:
    picture = Picture(deep(rgb()), deep(ramp()), metadata())
    assert write_picture(picture, tmp_path / "a.bmp") == (
        "BMP cannot store an ICC profile: colours are converted to sRGB",
        "BMP has no transparency: it is flattened onto white",
        "16 bits are rounded to the 8 of BMP",
        "BMP cannot store EXIF data: left out",
        "BMP cannot store XMP: left out",
    )
    opaque = replace(picture, pixels=rgb(), alpha=np.full((48, 64), 255, np.uint8))
    assert write_picture(opaque, tmp_path / "a.jpg") == ()
    long = replace(opaque, metadata=replace(metadata(), xmp=b"<x/>" * 20000))
    (notice,) = write_picture(long, tmp_path / "a.jpg")
    assert notice == "XMP longer than 64 kB, which JPEG cannot store: left out"


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "photo.webp"
    path.write_bytes(b"old")
    with pytest.raises(ImageWriteError, match=r"photo\.webp: WebP can store at most 16383.*17000x1; write PNG or TIFF"):
        write_picture(Picture(np.zeros((1, 17000, 3), np.uint8)), path)
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["photo.webp"]
    with pytest.raises(InvalidInputError, match="xyz"):
        write_picture(Picture(rgb()), tmp_path / "photo.xyz")
    with pytest.raises(ImageWriteError):
        write_picture(Picture(rgb()), path / "below" / "a-file.png")


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="the superuser may write everywhere")
def test_a_folder_without_permission(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(ImageWriteError, match="ermission"):
        write_picture(Picture(rgb()), tmp_path / "a.png")


def test_arrays_on_disk_are_written_strip_by_strip(tmp_path: Path) -> None:
    canvas = np.memmap(tmp_path / "canvas", np.uint16, "w+", shape=(48, 64, 3))
    canvas[:] = deep(rgb())
    for suffix in EXACT:
        write_picture(Picture(canvas), tmp_path / f"a{suffix}")
        assert np.array_equal(read_picture(tmp_path / f"a{suffix}").pixels, canvas)


def test_every_known_suffix_has_a_default() -> None:
    assert set(writing.DEFAULT_QUALITY) | {"PNG", "TIFF", "BMP"} == set(FORMATS.values())


def test_a_string_is_a_path(tmp_path: Path) -> None:
    name = str(tmp_path / "made" / "a.png")
    write_picture(Picture(rgb()), name)
    pixels = read_picture(name).pixels
    assert np.array_equal(read_rgb(name), pixels)
    assert read_size(name) == (pixels.shape[1], pixels.shape[0])
