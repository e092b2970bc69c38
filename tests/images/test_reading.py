from __future__ import annotations

import builtins
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import skimage.data
from PIL import Image, ImageCms, ImageOps

from tests.images.pictures import SUFFIXES, exif, ramp, rgb
from tsdsr.errors import ImageReadError, ImageTooLargeError, MissingDependencyError
from tsdsr.images import formats
from tsdsr.images.formats import FORMATS
from tsdsr.images.picture import Picture
from tsdsr.images.reading import read_picture, read_rgb, read_size
from tsdsr.images.writing import write_picture


@pytest.mark.parametrize("mode", ["1", "L", "P", "CMYK", "YCbCr", "RGB", "RGBA", "LA", "LAB"])
def test_modes_become_grey_or_rgb_and_conversions_are_noticed(photo: Image.Image, tmp_path: Path, mode: str) -> None:
    path = tmp_path / f"photo.{'tif' if mode in ('CMYK', 'YCbCr', 'LAB') else 'png'}"
    if mode == "LAB":
        srgb, lab = ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB")
        converted = ImageCms.profileToProfile(photo, srgb, lab, outputMode="LAB")
        assert converted is not None
    else:
        converted = photo.convert(mode)
    # Pillow 11.3 and 12.3 cannot read what they write uncompressed in this mode.
    converted.save(path, compression="tiff_lzw" if mode == "YCbCr" else None)
    picture = read_picture(path)
    assert picture.grey == (mode in ("1", "L", "LA"))
    assert (picture.alpha is not None) == (mode in ("RGBA", "LA"))
    assert mode == "YCbCr" or len(picture.notices) == (mode in ("1", "P", "CMYK", "LAB"))
    if mode in ("RGB", "RGBA", "LAB", "YCbCr"):
        error = np.abs(picture.pixels.astype(int) - np.asarray(photo))
        assert error.max() <= (0 if mode in ("RGB", "RGBA") else 8)


def test_cmyk_goes_through_its_profile_when_it_has_one(photo: Image.Image, tmp_path: Path) -> None:
    photo.convert("CMYK").save(tmp_path / "cmyk.jpg", quality=100)
    picture = read_picture(tmp_path / "cmyk.jpg")
    assert "approximate" in picture.notices[0]
    assert np.abs(picture.pixels.astype(int) - np.asarray(photo)).mean() < 3
    # A profile that claims to be CMYK and is not: the profile is unusable, the pixels are not.
    icc = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    icc[16:20] = b"CMYK"
    photo.convert("CMYK").save(tmp_path / "wrong.jpg", icc_profile=bytes(icc))
    wrong = read_picture(tmp_path / "wrong.jpg")
    assert wrong.pixels.shape == (512, 512, 3)
    assert wrong.metadata.icc is None


@pytest.mark.parametrize("name", ["p-alpha", "rgb-key", "grey-key"])
def test_transparency_of_palettes_and_single_colours_is_alpha(tmp_path: Path, name: str) -> None:
    path = tmp_path / "key.png"
    image = Image.fromarray(np.dstack([np.full((4, 8), v, np.uint8) for v in (10, 20, 30)]))
    image.paste((200, 200, 200), (0, 0, 4, 4))
    if name == "p-alpha":
        palette = image.quantize(2)
        palette.save(path, transparency=palette.getpixel((7, 0)))
    elif name == "rgb-key":
        image.save(path, transparency=(10, 20, 30))
    else:
        image.convert("L").save(path, transparency=image.convert("L").getpixel((7, 0)))
    alpha = read_picture(path).alpha
    assert alpha is not None
    assert np.array_equal(alpha, np.repeat([[255] * 4 + [0] * 4], 4, axis=0))


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".tif", ".avif"])
def test_every_orientation_is_applied_and_reset(tmp_path: Path, orientation: int, suffix: str) -> None:
    if suffix not in SUFFIXES:
        pytest.skip(f"no codec for {suffix}")
    image = Image.fromarray(np.asarray(rgb(24, 16)))
    path = tmp_path / f"turned{suffix}"
    image.save(path, exif=exif(orientation, 24, 16).tobytes())
    expected = np.asarray(ImageOps.exif_transpose(Image.open(path)).convert("RGB"))
    picture = read_picture(path)
    assert np.array_equal(picture.pixels, expected)
    assert picture.metadata.exif is not None
    tags = Image.Exif()
    tags.load(picture.metadata.exif)
    assert tags.get(0x0112, 1) == 1
    size = tags.get_ifd(0x8769)
    assert (size[0xA002], size[0xA003]) == (picture.width, picture.height) == expected.shape[1::-1]


def test_real_files(tmp_path: Path) -> None:
    """Files shipped with scikit-image, read in place."""
    folder = Path(skimage.data.__file__).parent
    paths = [p for p in folder.glob("*") if p.suffix.lower() in FORMATS and not p.name.startswith("multipage")]
    if not paths:
        pytest.skip("scikit-image has its pictures elsewhere")
    for path in paths:
        picture = read_picture(path)
        write_picture(picture, tmp_path / "again.png")
        again = read_picture(tmp_path / "again.png")
        assert np.array_equal(again.pixels, picture.pixels), path
        assert again.pixels.dtype == picture.pixels.dtype


def test_unreadable_files_are_named_with_the_reason(photo: Image.Image, tmp_path: Path) -> None:
    photo.save(tmp_path / "whole.png")
    (tmp_path / "cut.png").write_bytes((tmp_path / "whole.png").read_bytes()[:20000])
    (tmp_path / "text.png").write_text("not a picture")
    (tmp_path / "empty.jpg").touch()
    photo = photo.resize((32, 32))
    photo.save(tmp_path / "moving.webp", save_all=True, append_images=[photo.rotate(90)])
    photo.save(tmp_path / "moving.png", save_all=True, append_images=[photo.rotate(90)])
    photo.save(tmp_path / "pages.tif", save_all=True, append_images=[photo.rotate(90)])
    Image.fromarray(np.zeros((4, 4), dtype=np.float32)).save(tmp_path / "float.tiff")
    Image.fromarray(np.zeros((4, 4), dtype=np.int32)).save(tmp_path / "integer.tiff")
    photo.save(tmp_path / "gif.png", format="GIF")
    for name, message in {
        "cut.png": "truncated or damaged",
        "text.png": "is a text, not an image",
        "empty.jpg": "is empty",
        "gif.png": "is a GIF, which is not supported; save the frame you want as PNG",
        "moving.webp": "2 frames",
        "moving.png": "2 frames",
        "pages.tif": "2 frames or pages",
        "float.tiff": "floating-point",
        "integer.tiff": "32 bits",
        "missing.png": "no such file",
        ".": "is a folder",
    }.items():
        with pytest.raises(ImageReadError, match=message) as caught:
            read_picture(tmp_path / name)
        assert str(tmp_path / name) in str(caught.value)


def test_the_main_picture_of_several_in_a_jpeg_is_used(photo: Image.Image, tmp_path: Path) -> None:
    photo.save(tmp_path / "phone.jpg", format="MPO", save_all=True, append_images=[photo.resize((64, 64))])
    picture = read_picture(tmp_path / "phone.jpg")
    assert (picture.width, picture.height) == photo.size
    assert picture.notices == ("the main one of 2 pictures in the file is used",)


def test_the_content_decides_not_the_suffix(photo: Image.Image, tmp_path: Path) -> None:
    photo.save(tmp_path / "jpeg.png", format="JPEG")
    assert read_picture(tmp_path / "jpeg.png").pixels.shape == (512, 512, 3)


def test_a_bomb_is_refused_before_it_is_decoded_and_the_limit_can_be_lifted(tmp_path: Path) -> None:
    Image.new("1", (20000, 20000)).save(tmp_path / "bomb.png")  # 400 megapixels in 50 kB
    with pytest.raises(ImageTooLargeError, match="--max-pixels"):
        read_picture(tmp_path / "bomb.png")
    Image.new("1", (200, 100)).save(tmp_path / "small.png")
    with pytest.raises(ImageTooLargeError):
        read_picture(tmp_path / "small.png", max_pixels=19_999)
    assert read_picture(tmp_path / "small.png", max_pixels=20_000).pixels.shape == (100, 200, 1)
    assert Image.MAX_IMAGE_PIXELS is not None


def test_a_heif_without_its_package_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "phone.heic").write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(100))
    without(monkeypatch, "pillow_heif", "HEIF")
    with pytest.raises(MissingDependencyError, match=r"phone\.heic.*\.\[heif\]"):
        read_picture(tmp_path / "phone.heic")


def test_a_jxl_without_its_package_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(formats, "find_spec", lambda _: None)
    for start in (b"\xff\x0a\xfa\x7f\x01", b"\0\0\0\x0cJXL \r\n\x87\n"):
        (tmp_path / "sent.jpg").write_bytes(start + bytes(60))  # under whatever suffix
        for read in (read_picture, read_rgb, read_size):
            with pytest.raises(MissingDependencyError, match=r"sent\.jpg: JPEG XL files cannot be used.*\.\[jxl\]"):
                read(tmp_path / "sent.jpg")
    with pytest.raises(MissingDependencyError, match=r"result\.jxl.*\.\[jxl\]"):
        write_picture(Picture(rgb()), tmp_path / "result.jxl")


def without(monkeypatch: pytest.MonkeyPatch, package: str, name: str) -> None:
    """Simulate that a package is not installed."""
    real: Callable[..., Any] = builtins.__import__

    def refuse(module: str, *args: Any, **kwargs: Any) -> Any:
        if module == package:
            raise ImportError(module)
        return real(module, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", refuse)
    monkeypatch.setattr(Image, "OPEN", {key: value for key, value in Image.OPEN.items() if key != name})
    monkeypatch.setattr(Image, "SAVE", {key: value for key, value in Image.SAVE.items() if key != name})


def test_a_ramp_of_alpha_is_read_as_it_is(tmp_path: Path) -> None:
    Image.fromarray(np.dstack([rgb(), ramp()])).save(tmp_path / "ramp.webp", lossless=True, exact=True)
    picture = read_picture(tmp_path / "ramp.webp")
    assert picture.alpha is not None
    assert np.array_equal(picture.alpha, ramp())
    assert np.array_equal(picture.pixels, rgb())
