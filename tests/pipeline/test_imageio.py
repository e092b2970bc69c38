from __future__ import annotations

import logging
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tsdsr.errors import ImageReadError, ImageTooLargeError, ImageWriteError, InvalidInputError
from tsdsr.pipeline.imageio import FORMATS, read_image, write_image


@pytest.mark.parametrize("suffix", FORMATS)
def test_every_format_makes_the_round_trip(photo: Image.Image, tmp_path: Path, suffix: str) -> None:
    path = tmp_path / "new" / f"photo{suffix.upper()}"
    write_image(photo, path)
    back = read_image(path)
    assert (back.mode, back.size) == ("RGB", photo.size)
    error = np.abs(np.asarray(back, dtype=int) - np.asarray(photo, dtype=int))
    assert error.max() == 0 if FORMATS[suffix] in ("PNG", "TIFF", "BMP") else error.mean() < 2.5
    assert [p.name for p in path.parent.iterdir()] == [path.name]


@pytest.mark.parametrize("mode", ["1", "L", "P", "CMYK", "YCbCr", "RGB"])
def test_other_modes_become_rgb(photo: Image.Image, tmp_path: Path, mode: str) -> None:
    path = tmp_path / f"photo.{'jpg' if mode in ('CMYK', 'YCbCr') else 'png'}"
    photo.convert(mode).save(path)
    assert read_image(path).mode == "RGB"


def test_sixteen_bit_grey_is_kept(tmp_path: Path) -> None:
    Image.fromarray(np.full((4, 4), 40000, dtype=np.uint16)).save(tmp_path / "deep.png")
    image = read_image(tmp_path / "deep.png")
    assert image.mode.startswith("I")
    assert np.asarray(image)[0, 0] == 40000


def test_orientation_is_applied(photo: Image.Image, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    photo.crop((0, 0, 512, 256)).save(tmp_path / "turned.jpg", exif=exif)
    assert read_image(tmp_path / "turned.jpg").size == (256, 512)


def test_transparency_is_flattened_with_a_notice(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    Image.new("RGBA", (4, 4), (200, 0, 0, 0)).save(tmp_path / "clear.png")
    Image.new("RGBA", (4, 4), (200, 0, 0, 255)).save(tmp_path / "opaque.png")
    with caplog.at_level(logging.WARNING):
        assert read_image(tmp_path / "opaque.png").getpixel((0, 0)) == (200, 0, 0)
        assert not caplog.records
        assert read_image(tmp_path / "clear.png").getpixel((0, 0)) == (255, 255, 255)
    assert "flattened" in caplog.text


def test_unreadable_files_are_named_with_the_reason(photo: Image.Image, tmp_path: Path) -> None:
    photo.save(tmp_path / "whole.png")
    (tmp_path / "cut.png").write_bytes((tmp_path / "whole.png").read_bytes()[:20000])
    (tmp_path / "text.png").write_text("not a picture")
    (tmp_path / "empty.jpg").touch()
    photo.save(tmp_path / "moving.webp", save_all=True, append_images=[photo.rotate(90)])
    Image.fromarray(np.zeros((4, 4), dtype=np.float32)).save(tmp_path / "float.tiff")
    for name, message in {
        "cut.png": "truncated or damaged",
        "text.png": "not an image",
        "empty.jpg": "not an image",
        "moving.webp": "2 frames",
        "float.tiff": "floating-point",
        "missing.png": "no such file",
        ".": "is a folder",
    }.items():
        with pytest.raises(ImageReadError, match=message) as caught:
            read_image(tmp_path / name)
        assert str(tmp_path / name) in str(caught.value)


def test_a_bomb_is_refused_before_it_is_decoded_and_the_limit_can_be_lifted(tmp_path: Path) -> None:
    Image.new("1", (20000, 20000)).save(tmp_path / "bomb.png")  # 400 megapixels in 50 kB
    with pytest.raises(ImageTooLargeError, match="--max-pixels"):
        read_image(tmp_path / "bomb.png")
    Image.new("1", (200, 100)).save(tmp_path / "small.png")
    with pytest.raises(ImageTooLargeError):
        read_image(tmp_path / "small.png", max_pixels=19_999)
    assert read_image(tmp_path / "small.png", max_pixels=20_000).size == (200, 100)
    assert Image.MAX_IMAGE_PIXELS is not None


def test_a_failed_write_leaves_the_old_file_and_nothing_else(photo: Image.Image, tmp_path: Path) -> None:
    path = tmp_path / "photo.webp"
    path.write_bytes(b"old")
    with pytest.raises(ImageWriteError, match=r"photo\.webp"):
        write_image(Image.new("RGB", (17000, 1)), path)  # WebP ends at 16383 pixels a side
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["photo.webp"]
    with pytest.raises(InvalidInputError, match="xyz"):
        write_image(photo, tmp_path / "photo.xyz")
    with pytest.raises(ImageWriteError):
        write_image(photo, path / "below" / "a-file.png")
