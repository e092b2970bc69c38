from __future__ import annotations

import struct
import subprocess
import sys
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import ImageCms

from tests.images.jxl_files import DISPLAY_P3, HLG, PQ, SRGB, declaring, pyjpegxl
from tests.images.pictures import exif, kinds, metadata, rgb
from tsdsr.errors import ImageReadError, ImageTooLargeError, ImageWriteError
from tsdsr.images import jpeg_xl
from tsdsr.images.color_modes import upright
from tsdsr.images.color_spaces import ADOBE_RGB
from tsdsr.images.encoded import EncodedImage
from tsdsr.images.icc import to_srgb
from tsdsr.images.jpeg_xl import butteraugli_distance, read_jxl_header
from tsdsr.images.picture import Metadata, Picture
from tsdsr.images.reading import is_plain, read_picture, read_rgb, read_size
from tsdsr.images.writing import WriteOptions, check_size, write_picture

KINDS = kinds()
SMALL = rgb(50, 40)


def in_memory(data: bytes) -> EncodedImage:
    return EncodedImage("photo.jxl", data)


@pytest.mark.parametrize("kind", KINDS)
def test_lossless_keeps_every_value_and_all_metadata(tmp_path: Path, kind: str) -> None:
    picture, path = KINDS[kind], tmp_path / "photo.jxl"
    held = metadata() if not picture.grey else Metadata(metadata().exif, None, metadata().xmp, (300.0, 150.0))
    written = Picture(picture.pixels, picture.alpha, held)
    assert write_picture(written, path, WriteOptions(lossless=True)) == ()
    back = read_picture(path)
    assert back.pixels.dtype == picture.pixels.dtype
    assert np.array_equal(back.pixels, picture.pixels)
    assert (back.alpha is None) == (picture.alpha is None)
    assert picture.alpha is None or np.array_equal(back.alpha, picture.alpha)  # type: ignore[arg-type]
    assert back.metadata.icc == held.icc
    assert back.metadata.dpi == held.dpi
    assert b"A title" in (back.metadata.xmp or b"")
    assert b"maker's own \0\1" in (back.metadata.exif or b"")
    assert not is_plain(path)


def test_the_exif_box_begins_with_the_offset_that_the_standard_wants(tmp_path: Path) -> None:
    path = tmp_path / "photo.jxl"
    write_picture(Picture(SMALL, metadata=metadata()), path)
    found, _ = pyjpegxl.decode_to_numpy(path.read_bytes())
    assert found.exif[:4] == bytes(4)
    assert found.exif[4:6] in (b"II", b"MM")


@pytest.mark.parametrize("offset", [b"", bytes(4), b"\0\0\0\3abc"])
def test_an_exif_box_is_read_with_and_without_its_offset(offset: bytes) -> None:
    block = exif().tobytes().removeprefix(b"Exif\0\0")
    data = pyjpegxl.encode_from_numpy(SMALL, lossless=True, exif=offset + block)
    assert b"A maker" in (read_picture(in_memory(data)).metadata.exif or b"")


def test_quality_means_the_distance_of_libjxl(tmp_path: Path) -> None:
    assert [round(butteraugli_distance(q), 2) for q in (100, 90, 30, 20, 1)] == [0.1, 1.0, 6.4, 9.07, 15.0]
    sizes = []
    for quality in (1, 40, None, 100):
        write_picture(Picture(rgb(200, 150)), tmp_path / "a.jxl", WriteOptions(quality))
        sizes.append((tmp_path / "a.jxl").stat().st_size)
    assert sizes == sorted(sizes)
    assert len(set(sizes)) == 4


@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_orientation_of_the_codestream_is_applied_once(orientation: int) -> None:
    file = in_memory(declaring(SMALL, orientation=orientation))
    assert np.array_equal(read_picture(file).pixels, upright(SMALL, orientation))
    assert read_size(file) == ((40, 50) if orientation > 4 else (50, 40))


def test_the_orientation_in_exif_does_not_count() -> None:
    data = pyjpegxl.encode_from_numpy(SMALL, lossless=True, exif=bytes(4) + exif(6).tobytes()[6:])
    picture = read_picture(in_memory(data))
    assert np.array_equal(picture.pixels, SMALL)
    assert picture.metadata.exif is not None
    assert exif(6).tobytes()[6:] != picture.metadata.exif  # it says 1


@pytest.mark.parametrize(
    "size", [(1, 1), (8, 8), (640, 480), (1920, 1080), (300, 300), (1000, 500), (9000, 1), (1, 513)]
)
def test_the_size_is_read_from_the_header(size: tuple[int, int]) -> None:
    data = pyjpegxl.encode_from_numpy(np.zeros((size[1], size[0], 1), np.uint8))
    assert read_size(in_memory(data)) == size


def test_srgb_is_no_profile_and_other_colours_are_one() -> None:
    for grey in (SMALL, SMALL[..., :1].copy()):
        assert read_picture(in_memory(pyjpegxl.encode_from_numpy(grey))).metadata.icc is None
    assert read_picture(in_memory(declaring(SMALL, colour=SRGB))).metadata.icc is None
    picture = read_picture(in_memory(declaring(SMALL, colour=DISPLAY_P3)))
    assert np.array_equal(picture.pixels, SMALL)
    assert ImageCms.getProfileDescription(BytesIO(picture.metadata.icc or b"")).strip() == "DisplayP3"
    adobe = ADOBE_RGB.profile()
    assert read_picture(in_memory(pyjpegxl.encode_from_numpy(SMALL, icc=adobe))).metadata.icc == adobe


def test_exif_does_not_change_the_colours_of_the_codestream() -> None:
    tags = exif()
    tags.get_ifd(0x8769)[0xA001] = 2  # Adobe RGB
    picture = read_picture(in_memory(pyjpegxl.encode_from_numpy(SMALL, exif=bytes(4) + tags.tobytes()[6:])))
    assert picture.metadata.icc is None
    assert picture.notices == ()


@pytest.mark.parametrize("colour", [PQ, HLG])
def test_high_dynamic_range_is_known_as_such(tmp_path: Path, colour: tuple[int, int]) -> None:
    file = in_memory(declaring(SMALL, colour=colour))
    with pytest.raises(ImageReadError, match=r"photo\.jxl: has high dynamic range \((PQ|HLG), BT.2020\)"):
        read_rgb(file)  # type: ignore[arg-type]
    assert "is tone-mapped to sRGB" in to_srgb(read_picture(file)).notices[-1]


def test_the_size_is_limited_before_decoding(monkeypatch: pytest.MonkeyPatch) -> None:
    def decode(*_: object) -> None:
        raise AssertionError("decoded")

    monkeypatch.setattr(jpeg_xl, "_called", decode)
    with pytest.raises(ImageTooLargeError, match="1000000000x1073741824 pixels"):
        read_picture(in_memory(declaring(SMALL, size=(10**9, 2**30))))
    data = pyjpegxl.encode_from_numpy(SMALL, exif=bytes(20))  # in a container
    with pytest.raises(ImageTooLargeError, match="50x40 pixels are more than the limit of 1999"):
        read_picture(in_memory(data), max_pixels=1999)


def test_animations_and_floating_point_values_are_refused() -> None:
    with pytest.raises(ImageReadError, match=r"photo\.jxl: is an animation"):
        read_picture(in_memory(declaring(SMALL, animated=True)))
    for data in (declaring(SMALL, floating=True), pyjpegxl.encode_from_numpy(SMALL.astype(np.float32))):
        with pytest.raises(ImageReadError, match="contains floating-point values"):
            read_picture(in_memory(data))


@pytest.mark.parametrize("container", [False, True])
def test_a_truncated_file_is_called_that(container: bool) -> None:
    data = pyjpegxl.encode_from_numpy(SMALL, lossless=True, exif=bytes(20) if container else None)
    assert data.startswith(b"\xff\x0a") != container
    for length in (12, 20, 60, len(data) // 2, len(data) - 1):
        with pytest.raises(ImageReadError, match=r"photo\.jxl: is truncated or damaged"):
            read_picture(in_memory(data[:length]))


def test_a_header_in_parts_is_joined() -> None:
    bare = pyjpegxl.encode_from_numpy(SMALL, lossless=True)
    parts = [bare[:3], bare[3:5], bare[5:]]
    boxes = [b"jxlp" + struct.pack(">I", i | (i == 2) << 31) + part for i, part in enumerate(parts)]
    start = b"\0\0\0\x0cJXL \r\n\x87\n\0\0\0\x14ftypjxl \0\0\0\0jxl "
    data = start + b"".join(struct.pack(">I", len(box) + 4) + box for box in boxes)
    header = read_jxl_header(in_memory(data))
    assert (header.width, header.height) == (50, 40)
    assert np.array_equal(read_picture(in_memory(data)).pixels, SMALL)


FUZZ = """
import random, sys
from pathlib import Path
from tsdsr.errors import TSDSRError
from tsdsr.images.encoded import EncodedImage
from tsdsr.images.reading import read_picture
seed, rng = Path(sys.argv[1]).read_bytes(), random.Random(0)
failed = 0
for _ in range(150):
    data = bytearray(seed)
    for _ in range(rng.choice((1, 2, 8))):
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    try:
        read_picture(EncodedImage("a", bytes(data)), 100_000)
    except TSDSRError:
        failed += 1
print(failed)
"""


def test_damaged_files_end_with_typed_errors(tmp_path: Path) -> None:
    """In a process of its own, which a crash of the decoder would end."""
    path = tmp_path / "seed.jxl"
    write_picture(Picture(SMALL, metadata=metadata()), path, WriteOptions(lossless=True))
    result = subprocess.run([sys.executable, "-c", FUZZ, path], capture_output=True, text=True, check=True)
    assert int(result.stdout) > 50


def test_a_failed_assertion_of_the_codec_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    panic = type("PanicException", (BaseException,), {})

    def decode(_: bytes) -> None:
        raise panic("index out of bounds")

    monkeypatch.setattr(pyjpegxl, "decode_to_numpy", decode)
    with pytest.raises(ImageReadError, match=r"damaged \(the codec failed: index out of bounds\)"):
        read_picture(in_memory(declaring(SMALL)))


def test_no_result_larger_than_the_format_allows() -> None:
    check_size("a.jxl", 2**30, 1)
    with pytest.raises(ImageWriteError, match="JPEG XL can store at most 1073741824 pixels per side"):
        check_size("a.jxl", 2**30 + 1, 1)
