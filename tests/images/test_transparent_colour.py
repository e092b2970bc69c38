"""Transparency that PNG declares beside the pixels: one grey or RGB value, or a value for each palette entry (tRNS)."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest

from tests.images.colored import write_png
from tsdsr.images.picture import Pixels
from tsdsr.images.reading import read_picture, read_rgb


def ramp(bits: int, channels: int) -> Pixels:
    """16 x 16 samples with up to 256 levels."""
    levels = (np.arange(256).reshape(16, 16) * (257 if bits == 16 else 1) % (1 << bits)).astype(np.uint16)
    stacked = np.stack([levels, levels[::-1], levels.T][:channels], axis=-1)
    return stacked if bits == 16 else stacked.astype(np.uint8)


CASES = [(bits, 1, value) for bits in (1, 2, 4, 8, 16) for value in (0, 1, (1 << bits) - 1)]
CASES += [(bits, 3, 37) for bits in (8, 16)]


@pytest.mark.parametrize("unused", [0, 1], ids=["", "unused bits set"])
@pytest.mark.parametrize(("bits", "channels", "value"), CASES)
def test_one_value_is_transparent_at_every_depth(
    tmp_path: Path, bits: int, channels: int, value: int, unused: int
) -> None:
    samples = ramp(bits, channels)
    if bits == 16:
        value *= 257
    colour = [value % (1 << bits)] * channels
    if channels == 3:
        colour = [int(v) for v in samples[2, 5]]
    coded = [v | (unused << 15 if bits < 16 else 0) for v in colour]
    chunk = (b"tRNS", struct.pack(f">{channels}H", *coded))
    path = write_png(tmp_path / "a.png", samples, chunk, bits=bits)
    picture = read_picture(path)
    clear = (samples == np.array(colour)).all(-1)
    assert picture.alpha is not None
    assert np.array_equal(picture.alpha == 0, clear)
    assert np.array_equal(picture.alpha == picture.max_value, ~clear)
    most = (1 << bits) - 1
    scaled = samples.astype(np.uint32) * (picture.max_value if bits < 16 else 65535) // most
    assert np.array_equal(picture.pixels, scaled)
    if bits == 16:
        scaled = (scaled + 128) // 257
    on_white = np.where(clear[..., None], 255, scaled)
    assert np.array_equal(read_rgb(path), np.broadcast_to(on_white, (16, 16, 3)))
    if clear.any():
        assert (read_rgb(path)[clear] == 255).all()


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
@pytest.mark.parametrize("values", [(0,), (255, 0), (10, 200)], ids=str)
def test_a_palette_may_have_fewer_values_than_colours(tmp_path: Path, bits: int, values: tuple[int, ...]) -> None:
    count = 1 << bits
    palette = (b"PLTE", bytes(v % 256 for i in range(count) for v in (i, 255 - i, 7 * i)))
    path = write_png(tmp_path / "a.png", ramp(bits, 1), palette, (b"tRNS", bytes(values)), bits=bits, palette=True)
    picture = read_picture(path)
    expected = np.full(count, 255, np.uint8)
    expected[: len(values)] = values[:count]
    assert picture.alpha is not None
    assert np.array_equal(picture.alpha, expected[ramp(bits, 1)[..., 0]])
    assert tuple(picture.pixels[0, 1]) == (1, 254, 7)


def test_without_the_chunk_nothing_is_transparent(tmp_path: Path) -> None:
    for bits in (1, 2, 4, 8, 16):
        assert read_picture(write_png(tmp_path / "a.png", ramp(bits, 1), bits=bits)).alpha is None


def test_large_pictures_too(tmp_path: Path) -> None:
    samples = np.tile(ramp(4, 1), (80, 120, 1))  # decoded and converted in several strips
    picture = read_picture(write_png(tmp_path / "a.png", samples, (b"tRNS", b"\0\5"), bits=4))
    assert picture.alpha is not None
    assert np.array_equal(picture.alpha == 0, samples[..., 0] == 5)
