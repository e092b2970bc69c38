"""Decoding to 8-bit RGB: :func:`read_rgb`, :func:`read_size` and related functions."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image, ImageCms

from tests.images.pictures import exif, rgb
from tests.images.unusual import SIZE, UNUSUAL, write_float, write_unusual
from tsdsr.errors import ImageReadError, ImageTooLargeError
from tsdsr.images import reading
from tsdsr.images.color_modes import rgb_of
from tsdsr.images.icc import to_srgb
from tsdsr.images.reading import decode_rgb, is_plain, read_picture, read_rgb, read_size


@pytest.mark.parametrize("name", UNUSUAL)
def test_unusual_files_show_what_a_viewer_shows(tmp_path: Path, name: str) -> None:
    path, shown = write_unusual(tmp_path, name)
    pixels = read_rgb(path)
    assert (pixels.dtype, pixels.flags.c_contiguous) == (np.uint8, True)
    assert np.array_equal(pixels, shown)
    assert np.array_equal(decode_rgb(path.read_bytes(), "in memory"), shown)
    assert read_size(path) == (SIZE, SIZE)
    assert not is_plain(path)


@pytest.mark.parametrize("options", [{"suffix": ".png"}, {"suffix": ".jpg"}, {"suffix": ".bmp"}, {"suffix": ".webp"}])
@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_plain_files_keep_their_values(photo: Image.Image, tmp_path: Path, options: dict[str, str], mode: str) -> None:
    path = tmp_path / f"photo{options['suffix']}"
    photo.convert(mode).save(path)
    with Image.open(path) as image:
        stored = np.asarray(image.convert("RGB"))
    assert np.array_equal(read_rgb(path), stored)
    assert is_plain(path)


def test_a_profile_is_not_applied_to_rgb(tmp_path: Path) -> None:
    profile = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    red, green = profile.index(b"rXYZ"), profile.index(b"gXYZ")
    profile[red : red + 4], profile[green : green + 4] = b"gXYZ", b"rXYZ"
    Image.fromarray(rgb()).save(tmp_path / "a.png", icc_profile=bytes(profile))
    assert np.array_equal(read_rgb(tmp_path / "a.png"), rgb())
    applied = to_srgb(read_picture(tmp_path / "a.png")).pixels
    assert np.abs(applied.astype(int) - rgb()).max() > 50


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["jpg", "png", "tif", "planar"])
def test_sizes_in_headers_are_those_of_the_pixels(tmp_path: Path, orientation: int, kind: str) -> None:
    path = tmp_path / f"a.{kind if kind != 'planar' else 'tif'}"
    if kind == "planar":
        planes = np.moveaxis(rgb(20, 12).astype(np.uint16), -1, 0)
        tags = [(274, "H", 1, orientation, True)]
        tifffile.imwrite(path, planes, photometric="rgb", planarconfig="separate", extratags=tags)
    else:
        Image.fromarray(rgb(20, 12)).save(path, exif=exif(orientation, 20, 12).tobytes())
    assert read_size(path) == ((20, 12) if orientation < 5 else (12, 20))
    assert read_rgb(path).shape[1::-1] == read_size(path)


def test_the_size_of_a_png_is_read_without_its_pixels(tmp_path: Path) -> None:
    """Not even for an orientation that follows them: a picture may be far too large to be decoded."""
    file = io.BytesIO()
    Image.fromarray(rgb(20, 12)).save(file, "PNG", exif=exif(6, 20, 12).tobytes())
    content = file.getvalue()
    start, pixels = content.index(b"eXIf") - 4, content.index(b"IDAT") - 4
    damaged = bytearray(content[pixels:-12])
    damaged[20:40] = bytes(20)
    (tmp_path / "a.png").write_bytes(content[:start] + damaged + content[start:pixels] + content[-12:])
    assert read_size(tmp_path / "a.png") == (12, 20)
    with pytest.raises(ImageReadError):
        read_rgb(tmp_path / "a.png")


def test_sizes_of_files_that_pillow_cannot_open(tmp_path: Path) -> None:
    two = np.dstack([rgb(20, 12)[..., 0], rgb(20, 12)[..., 1]]).astype(np.uint16)
    options = {"photometric": "minisblack", "planarconfig": "contig", "extrasamples": ["unassalpha"]}
    tifffile.imwrite(tmp_path / "a.tif", two, extratags=[(274, "H", 1, 6, True)], **options)
    assert read_size(tmp_path / "a.tif") == (12, 20) == read_rgb(tmp_path / "a.tif").shape[1::-1]


def test_what_has_no_known_range_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(ImageReadError, match=r"float\.tif: contains floating-point values"):
        read_rgb(write_float(tmp_path))
    with pytest.raises(ImageReadError, match=r"sample b/7: contains floating-point values"):
        decode_rgb((tmp_path / "float.tif").read_bytes(), "sample b/7")
    for read in (read_rgb, read_size, is_plain):
        with pytest.raises(ImageReadError, match=r"missing\.png: no such file"):
            read(tmp_path / "missing.png")


def test_results_may_be_larger_than_inputs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert reading.MAX_RGB_PIXELS > reading.DEFAULT_MAX_PIXELS
    Image.new("RGB", (40, 30)).save(tmp_path / "a.png")
    monkeypatch.setattr(reading, "MAX_RGB_PIXELS", 1000)
    with pytest.raises(ImageTooLargeError, match=r"a\.png: 40x30"):
        read_rgb(tmp_path / "a.png")


@pytest.mark.parametrize("name", [name for name in UNUSUAL if name not in ("rgb16.png", "transparent16.png")])
def test_pillow_images_show_the_same(tmp_path: Path, name: str) -> None:
    """Except 16-bit colour, which Pillow does not keep, and the orientation, which belongs to the file."""
    if name == "planar16.tif":
        pytest.skip("Pillow reads 16-bit planes wrongly")
    path, shown = write_unusual(tmp_path, name)
    with Image.open(path) as image:
        assert np.array_equal(rgb_of(image), np.rot90(shown) if name == "turned.jpg" else shown)


def test_pillow_images_without_a_known_range_are_refused() -> None:
    for mode in ("F", "I"):
        with pytest.raises(ImageReadError, match=f"mode {mode}"):
            rgb_of(Image.new(mode, (4, 4)))
