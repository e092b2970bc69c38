from __future__ import annotations

import numpy as np
import pytest
import skimage.data
import torch
import torch.nn.functional as F
from PIL import Image, ImageDraw

from tsdsr.images.picture import Pixels
from tsdsr.images.transparency import _halved, _interpolated, _Taps, enlarge_alpha, fill_transparent


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


def test_a_transparent_pixel_takes_the_colour_beside_it() -> None:
    pixels = np.array([[[100, 200, 40], [7, 7, 7]]], np.uint8)
    assert fill_transparent(pixels, np.array([[255, 0]], np.uint8)).tolist() == [[[100, 200, 40], [100, 200, 40]]]
    # In between: 0.25 and 0.75 of the way from 120 to 160, the colours of the halves, half filled by their mean 140.
    row = np.array([[[100]], [[0]], [[0]], [[180]]], np.uint8)
    assert fill_transparent(row, np.array([[255], [0], [0], [255]], np.uint8)).ravel().tolist() == [100, 130, 150, 180]


@pytest.mark.parametrize("size", [(1, 1), (1, 6), (5, 8), (13, 7)])
def test_the_pyramid_is_that_of_torch(size: tuple[int, int]) -> None:
    """Halving and enlarging against average pooling and bilinear interpolation."""
    x = np.random.default_rng(0).random((*size, 4), dtype=np.float32)
    planes = torch.from_numpy(x).permute(2, 0, 1)[None]
    halves = F.avg_pool2d(planes, 2, ceil_mode=True, count_include_pad=False)
    np.testing.assert_allclose(_halved(x), halves[0].permute(1, 2, 0), atol=1e-6)
    larger = (2 * size[0] + 1, 3 * size[1])
    taps = [_Taps.between(n, np.arange(m), n / m) for n, m in zip(size, larger, strict=True)]
    enlarged = F.interpolate(planes, size=larger, mode="bilinear")
    np.testing.assert_allclose(_interpolated(x, *taps), enlarged[0].permute(1, 2, 0), atol=1e-5)
