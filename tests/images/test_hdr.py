from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.images.colored import cicp, flat, iccp, write_avif, write_heic, write_png
from tests.images.pictures import srgb_profile
from tsdsr.errors import ImageReadError
from tsdsr.images.hdr import REFERENCE_WHITE, hlg_scene, pq_luminance, pq_signal
from tsdsr.images.icc import to_srgb
from tsdsr.images.picture import Picture
from tsdsr.images.reading import is_plain, read_picture, read_rgb
from tsdsr.images.writing import write_picture
from tsdsr.pipeline.batch import restore_file
from tsdsr.pipeline.picture_restorer import restore_picture

SOURCES = {
    "PQ in PNG": lambda p: write_png(p / "a.png", flat(90, 80, 70), cicp(9, 16)),
    "HLG in PNG": lambda p: write_png(p / "a.png", flat(90, 80, 70), cicp(9, 18)),
    "16 bits": lambda p: write_png(p / "a.png", flat(9000, 8000, 7000, dtype=np.uint16), cicp(9, 16)),
    "grey": lambda p: write_png(p / "a.png", flat(90), cicp(9, 16)),
    "PQ in AVIF": lambda p: write_avif(p / "a.avif", flat(90, 80, 70), 9, 16),
    "PQ with a profile": lambda p: write_avif(p / "a.avif", flat(90, 80, 70), 9, 16, srgb_profile()),
    "PQ in HEIC": lambda p: write_heic(p / "a.heic", flat(90, 80, 70), 9, 16),
    "profile with codes": lambda p: write_png(p / "a.png", flat(90, 80, 70), iccp(profile_of_pq())),
    "profile by name": lambda p: write_png(p / "a.png", flat(90, 80, 70), iccp(srgb_profile(), b"ITUR_2100_PQ_FULL")),
}


def profile_of_pq() -> bytes:
    """An sRGB profile whose copyright became the tag of code points for PQ."""
    icc = bytearray(srgb_profile())
    entry = icc.index(b"cprt", 128)
    at = int.from_bytes(icc[entry + 4 : entry + 8], "big")
    icc[entry : entry + 4] = b"cicp"
    icc[at : at + 12] = b"cicp\0\0\0\0" + bytes((9, 16, 0, 1))
    return bytes(icc)


@pytest.mark.parametrize("kind", SOURCES)
def test_high_dynamic_range_is_refused_unless_it_may_be_tone_mapped(tmp_path: Path, kind: str) -> None:
    path = SOURCES[kind](tmp_path)
    picture = read_picture(path)
    assert picture.metadata.hdr is not None
    assert not is_plain(path)
    with pytest.raises(ImageReadError, match=rf"{path}: has high dynamic range .*--icc srgb"):
        read_rgb(path)
    with pytest.raises(ImageReadError, match="high dynamic range"):
        write_picture(picture, tmp_path / "result.png")
    with pytest.raises(ImageReadError, match="high dynamic range"):
        picture.to_image()
    with pytest.raises(ImageReadError, match=rf"{path}: has high dynamic range"):
        restore_file(path, tmp_path / "result.png", lambda p: restore_picture(p, lambda pixels: pixels))
    assert not (tmp_path / "result.png").exists()
    mapped = to_srgb(picture)
    assert mapped.metadata.hdr is None is mapped.metadata.icc
    assert any("tone-mapped" in notice for notice in mapped.notices)
    assert mapped.pixels.dtype == picture.pixels.dtype
    notices = restore_file(path, tmp_path / "result.png", lambda p: restore_picture(to_srgb(p), lambda pixels: pixels))
    assert any("tone-mapped" in notice for notice in notices)
    assert np.array_equal(read_picture(tmp_path / "result.png").pixels, mapped.pixels)


def test_the_curves_have_their_published_values() -> None:
    # BT.2408, table 1: diffuse white of 203 cd/m² is 58 % PQ and 75 % HLG; ST 2084: 100 cd/m² is 50.8 %.
    assert pq_signal(np.array([100.0, 203.0, 1000.0, 10_000.0])) == pytest.approx([0.508, 0.581, 0.752, 1], abs=5e-4)
    assert pq_luminance(np.array([0.0, 1.0])) == pytest.approx([0, 10_000])
    assert 1000 * hlg_scene(np.array([0.75, 1.0])) ** 1.2 == pytest.approx([203, 1000], abs=0.5)
    levels = np.linspace(0.01, 1, 100)
    assert pq_signal(pq_luminance(levels)) == pytest.approx(levels, abs=1e-9)


def pq(*luminances: float) -> Picture:
    """A picture of grey columns of these luminances."""
    row = np.rint(pq_signal(np.array(luminances)) * 65535).astype(np.uint16)
    return Picture(np.tile(row[None, :, None], (4, 1, 3)))


def mapped(tmp_path: Path, picture: Picture, primaries: int = 9, transfer: int = 16) -> list[float]:
    """The first row in sRGB from 0 to 255."""
    path = write_png(tmp_path / "a.png", picture.pixels, cicp(primaries, transfer))
    row = to_srgb(read_picture(path)).pixels[0].astype(float) / 257
    assert np.ptp(row, axis=-1).max() < 0.1  # grey stays grey
    return [float(v) for v in row[:, 0]]


def test_without_highlights_diffuse_white_is_white_and_nothing_is_bent(tmp_path: Path) -> None:
    white = REFERENCE_WHITE
    found = mapped(tmp_path, pq(0, white * 0.2158, white * 0.5, white))
    assert found == pytest.approx([0, 128, 188, 255], abs=0.6)  # 0.2158 is 128 on the curve of sRGB


def test_highlights_get_room_and_shadows_stay(tmp_path: Path) -> None:
    found = mapped(tmp_path, pq(0, 10, 50, 100, 203, 400, 800, 1000))
    assert found == sorted(found)
    assert found[-1] == pytest.approx(255, abs=0.1)
    assert min(np.diff(found[:-1])) > 4
    assert found[1:3] == pytest.approx([63.2, 135.9], abs=1)  # 10 and 50 of 203 cd/m², as without a knee
    assert 215 < found[4] < 240


def test_hues_stay(tmp_path: Path) -> None:
    # A colour within sRGB, at about 600 and 60 cd/m², given in linear BT.2020.
    linear = np.array([[[0.6, 0.55, 0.5]], [[0.06, 0.055, 0.05]]]) * 1000
    samples = np.rint(pq_signal(linear) * 65535).astype(np.uint16)
    path = write_png(tmp_path / "a.png", samples, cicp(9, 16))
    result = to_srgb(read_picture(path)).pixels.astype(float)[:, 0] / 65535
    light = np.where(result <= 0.04045, result / 12.92, ((result + 0.055) / 1.055) ** 2.4)
    assert light[0] / light[0, 0] == pytest.approx(light[1] / light[1, 0], abs=0.01)


def test_hlg_of_75_percent_is_diffuse_white_below_the_peak(tmp_path: Path) -> None:
    samples = np.tile(np.array([0, 49151, 65535], np.uint16)[None, :, None], (4, 1, 3))
    black, white, peak = mapped(tmp_path, Picture(samples), 9, 18)
    assert (black, peak) == pytest.approx((0, 255), abs=0.1)
    assert white == pytest.approx(mapped(tmp_path, pq(203, 1000))[0], abs=0.5)
