from __future__ import annotations

import numpy as np
import pytest
import skimage.data
from PIL import Image, ImageDraw

from tsdsr.images.picture import Pixels
from tsdsr.images.transparency import enlarge_alpha, fill_transparent


def shape(size: int = 256) -> Image.Image:
    """A cut-out with straight and round edges, a hole and thin lines, antialiased."""
    large = Image.new("L", (1024, 1024))
    draw = ImageDraw.Draw(large)
    draw.ellipse((100, 80, 700, 900), fill=255)
    draw.polygon([(500, 500), (980, 620), (700, 980)], fill=255)
    draw.rectangle((300, 300, 450, 500), fill=0)
    for x in range(40, 1000, 120):
        draw.line((x, 20, 1000 - x // 2, 300), fill=255, width=8)
    return large.resize((size, size), Image.Resampling.BOX)


def psnr(a: Pixels, b: Pixels) -> float:
    return float(-10 * np.log10(np.square((a.astype(float) - b) / 255).mean()))


@pytest.mark.parametrize("bits", [8, 16])
def test_edges_are_sharper_than_bicubic_ones(bits: int) -> None:
    truth = np.asarray(shape())
    small = np.asarray(shape(64))
    factor = 1 if bits == 8 else 257
    result = enlarge_alpha(small.astype(np.uint8 if bits == 8 else np.uint16) * factor, (256, 256)) / factor
    bicubic = np.asarray(Image.fromarray(small).resize((256, 256), Image.Resampling.BICUBIC))
    assert psnr(result, truth) > psnr(bicubic, truth) + 1
    again = np.asarray(Image.fromarray(np.rint(result).astype(np.uint8)).resize((64, 64), Image.Resampling.BOX))
    assert psnr(again, small) > 38


def test_opaque_and_transparent_stay_so_and_nothing_rings() -> None:
    small = np.zeros((40, 200), np.uint8)
    small[:, 70:150] = 255  # edges inside blocks and across their borders
    result = enlarge_alpha(small, (120, 600))
    assert result[:, : 69 * 3].max() == 0 == result[:, 151 * 3 :].max()
    assert result[:, 71 * 3 : 149 * 3].min() == 255
    rows = result[:, 60 * 3 : 80 * 3].astype(int)
    assert (np.diff(rows, axis=1) >= 0).all()


@pytest.mark.parametrize("size", [(160, 640), (100, 401), (77, 301), (40, 160)])
def test_blocks_leave_no_seams_at_any_scale(size: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    small = np.asarray(shape(160))[40:80]
    blocks = enlarge_alpha(small, size).astype(int)
    monkeypatch.setattr("tsdsr.images.transparency._BLOCK", 1000)
    assert np.abs(blocks - enlarge_alpha(small, size)).max() <= 2


@pytest.mark.parametrize("size", [(1, 1), (1, 9), (7, 1), (2, 3), (65, 64)])
def test_any_size(size: tuple[int, int]) -> None:
    rng = np.random.default_rng(0)
    alpha = rng.integers(0, 256, size, dtype=np.uint8)
    assert enlarge_alpha(alpha, (size[0] * 3, size[1] * 5)).shape == (size[0] * 3, size[1] * 5)
    pixels = rng.integers(0, 256, (*size, 3), dtype=np.uint8)
    assert fill_transparent(pixels, alpha).shape == pixels.shape
    nothing = fill_transparent(pixels, np.zeros_like(alpha))
    assert nothing.max() == 0


def test_visible_colours_are_carried_on_below_transparency() -> None:
    red = np.zeros((50, 61, 3), np.uint8)
    alpha = np.asarray(Image.fromarray(np.asarray(shape())).resize((61, 50)))
    visible = alpha > 0
    red[visible] = (200, 30, 10)
    result = fill_transparent(red, alpha)
    assert np.abs(result.astype(int) - (200, 30, 10)).max() <= 1


def test_what_is_visible_stays_as_it_is() -> None:
    photo = skimage.data.astronaut()[:200, :311]
    alpha = np.asarray(shape().resize((311, 200)))
    for pixels, a in ((photo, alpha), (photo.astype(np.uint16) * 257, alpha.astype(np.uint16) * 257)):
        result = fill_transparent(pixels, a)
        assert np.array_equal(result[alpha > 32], pixels[alpha > 32])
        assert result.dtype == pixels.dtype
        # Where nothing is visible, it is near what is visible beside it.
        beside = np.abs(np.diff(result.astype(int) // (257 if pixels.dtype == np.uint16 else 1), axis=0)).mean()
        assert beside < np.abs(np.diff(photo.astype(int), axis=0)).mean()
