"""Files that are not read are called what they are, with a remedy."""

from __future__ import annotations

import io
import os
import struct
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.images.pictures import rgb
from tsdsr.errors import ImageReadError
from tsdsr.images.file_kinds import jpeg_process
from tsdsr.images.reading import read_picture, read_rgb, read_size

BOX = struct.pack(">I", 24) + b"ftyp"


def saved(form: str) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(rgb()).save(stream, format=form)
    return stream.getvalue()


def zipped() -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as file:
        file.writestr("a.txt", "text")
    return stream.getvalue()


def jpeg(marker: int, precision: int) -> bytes:
    """A usual JPEG whose frame header names another process or precision."""
    content = bytearray(saved("JPEG"))
    at = content.index(b"\xff\xc0")
    content[at + 1], content[at + 4] = marker, precision
    return bytes(content)


HEADER_READ = ("12 bit", "lossless", "hierarchical")
"""Kinds whose size Pillow reads, though not their pixels."""

KINDS = {
    "empty": (b"", "is empty; copy or download it again"),
    "zeros": (bytes(5000), "begins with nothing but zero bytes"),
    "gif": (saved("GIF"), "is a GIF, which is not supported; save the frame you want as PNG"),
    "jp2": (saved("JPEG2000"), "is a JPEG 2000 image, which is not supported; save it as"),
    "j2k": (b"\xff\x4f\xff\x51" + bytes(60), "is a JPEG 2000 image"),
    "12 bit": (jpeg(0xC1, 12), "is a 12-bit JPEG, which cannot be decoded; save it as PNG or a common 8-bit JPEG"),
    "lossless": (jpeg(0xC3, 8), "is a lossless JPEG, which cannot be decoded"),
    "jpeg-ls": (jpeg(0xF7, 8), r"is a near-lossless \(LS\) JPEG"),
    "hierarchical": (jpeg(0xC5, 8), "is a hierarchical JPEG"),
    "tga": (saved("TGA"), "is a TGA image, which is not supported; save it as"),
    "cursor": (b"\0\0\2\0\1\0\x20\x20" + bytes(60), "is a Windows cursor"),
    "two bytes of a JPEG": (b"\xff\xd8", "is not an image in a known format.*or its beginning is damaged"),
    "cr3": (BOX + b"crx \0\0\0\1" + bytes(40), r"is a camera's raw file \(Canon\).*develop it with a raw converter"),
    "raf": (b"FUJIFILMCCD-RAW 0201FF393103" + bytes(60), r"is a camera's raw file \(Fujifilm\)"),
    "orf": (b"IIRO\x08\0\0\0" + bytes(60), r"is a camera's raw file \(Olympus\)"),
    "rw2": (b"IIU\0\x18\0\0\0" + bytes(60), r"is a camera's raw file \(Panasonic or Leica\)"),
    "exr": (b"\x76\x2f\x31\x01\2\0\0\0" + bytes(60), "is an OpenEXR image.*tone-map it"),
    "hdr": (b"#?RADIANCE\nFORMAT=32-bit_rle_rgbe\n\n-Y 4 +X 4\n", "is a Radiance HDR image.*tone-map it"),
    "psd": (b"8BPS\0\1" + bytes(60), "is a Photoshop document.*export it"),
    "pdf": (b"%PDF-1.7\n" + bytes(60), "is a PDF.*export the page"),
    "svg": (b'<?xml version="1.0"?>\n<!-- drawn --><svg xmlns="http://www.w3.org/2000/svg"/>', "is an SVG drawing"),
    "xcf": (b"gimp xcf v011\0" + bytes(60), "is a GIMP document"),
    "mp4": (BOX + b"isom\0\0\2\0isomiso2" + bytes(40), "is a video.*'tsdsr video', or save the frame you want"),
    "mov": (BOX + b"qt  \0\0\2\0qt  " + bytes(40), "is a video"),
    "webm": (b"\x1aE\xdf\xa3" + bytes(60), "is a video"),
    "avi": (b"RIFF\x40\0\0\0AVI LIST" + bytes(60), "is a video"),
    "html": (b"<!DOCTYPE html>\n<html><body>404 Not Found</body></html>", "is a web page, not an image.*download the"),
    "html with mark": (b"\xef\xbb\xbf\r\n  <HTML><head>", "is a web page"),
    "lfs": (
        b"version https://git-lfs.github.com/spec/v1\noid sha256:ab\nsize 1\n",
        "is a Git LFS pointer.*git lfs pull",
    ),
    "zip": (zipped(), "is a ZIP archive.*unpack it"),
    "appledouble": (b"\0\5\x16\7\0\2\0\0Mac OS X" + bytes(60), "is a macOS side file"),
    "json": (b'{"url": "https://example.org/a.jpg"}', "is a JSON text"),
    "text": ("Grüße aus Köln".encode(), "is a text, not an image; give an image"),
    "noise": (
        np.random.default_rng(0).integers(128, 256, 999, np.uint8).tobytes(),
        "is not an image in a known format",
    ),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("suffix", [".jpg", ".png"])
def test_a_file_is_called_what_it_is(tmp_path: Path, kind: str, suffix: str) -> None:
    content, words = KINDS[kind]
    path = tmp_path / f"photo{suffix}"
    path.write_bytes(content)
    for read in (read_picture, read_rgb, *([] if kind in HEADER_READ else [read_size])):
        with pytest.raises(ImageReadError, match=words) as caught:
            read(path)
        assert str(caught.value).startswith(f"{path}: ")
        assert "\n" not in str(caught.value)


def test_a_process_that_some_decoders_lack_is_named() -> None:
    said = jpeg_process(io.BytesIO(jpeg(0xC9, 8)))
    assert said is not None
    assert said.startswith("is an arithmetic-coded JPEG, which cannot be decoded")


def test_damage_is_still_called_damage(tmp_path: Path) -> None:
    for form, suffix in (("JPEG", ".jpg"), ("PNG", ".png"), ("TIFF", ".tif"), ("WEBP", ".webp"), ("BMP", ".bmp")):
        path = tmp_path / f"a{suffix}"
        path.write_bytes(saved(form)[:700])
        with pytest.raises(ImageReadError, match=f"a{suffix}: is truncated or damaged"):
            read_picture(path)


def test_what_the_operating_system_refuses_is_not_called_damage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "loop.png").symlink_to("loop.png")
    (tmp_path / "gone.png").symlink_to("nowhere.png")
    os.mkfifo(tmp_path / "pipe.png")
    for name, words in {
        "loop.png": r"loop\.png: cannot be read \(Too many levels of symbolic links\)",
        "gone.png": r"gone\.png: no such file \(a link to a file that does not exist\)",
        "n" * 300 + ".png": r"nn\.png: cannot be read \(File name too long\)",
        "pipe.png": r"pipe\.png: is a device or pipe, not a file",
    }.items():
        with pytest.raises(ImageReadError, match=words):
            read_picture(tmp_path / name)
    path = tmp_path / "secret.png"
    Image.fromarray(rgb()).save(path)

    def refused(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    if os.geteuid():
        path.chmod(0)
    else:  # the superuser may read everything
        monkeypatch.setattr(Path, "open", refused)
    for read in (read_picture, read_rgb, read_size):
        with pytest.raises(ImageReadError) as caught:
            read(path)
        assert str(caught.value) == f"{path}: cannot be read (Permission denied)"
