"""Colours and transparency of one picture through a model."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
import skimage.data
from PIL import Image

from tests.images.pictures import metadata
from tests.images.test_transparency import shape
from tsdsr.images.picture import Picture, Pixels
from tsdsr.pipeline.diffusers_loading import load_diffusers_pipeline
from tsdsr.pipeline.picture_restorer import restore_picture


def composite(pixels: Pixels, alpha: Pixels, background: int) -> Pixels:
    weight = alpha[..., None] / 255
    return pixels * weight + background * (1 - weight)


def shrunk(values: Pixels) -> Pixels:
    """A quarter of the size, channel by channel, float."""
    channels = [Image.fromarray(values[..., c].astype(np.float32)) for c in range(values.shape[2])]
    size = (values.shape[1] // 4, values.shape[0] // 4)
    return np.dstack([np.asarray(channel.resize(size, Image.Resampling.BOX)) for channel in channels])


def bicubic(pixels: Pixels) -> Pixels:
    size = (pixels.shape[1] * 4, pixels.shape[0] * 4)
    return np.asarray(Image.fromarray(pixels).resize(size, Image.Resampling.BICUBIC))


@pytest.mark.parametrize("model", ["bicubic", "mini"])
@pytest.mark.parametrize("background", [0, 255])
def test_cut_outs_have_no_halo(model: str, background: int) -> None:
    """Against the true cut-out over black and over white, in the band along its edge."""
    truth = skimage.data.astronaut()[:256, 100:356]
    alpha = np.asarray(shape())
    small_alpha = shrunk(alpha[..., None])
    small = shrunk(truth * (alpha[..., None] / 255)) / np.maximum(small_alpha / 255, 1e-6)
    hidden = np.where(small_alpha == 0, 255 - background, small)  # the worst colour that could be underneath
    pixels = hidden.clip(0, 255).round().astype(np.uint8)
    picture = Picture(pixels, small_alpha[..., 0].round().astype(np.uint8))
    mini = partial(load_diffusers_pipeline("mini", "cpu", "fp32").upscale_pixels, scale=4.0)
    enlarge = mini if model == "mini" else bicubic
    result = restore_picture(picture, enlarge)
    assert result.alpha is not None
    expected = composite(truth, alpha, background)
    error = composite(result.pixels, result.alpha, background) - expected
    careless = composite(enlarge(pixels), result.alpha, background) - expected
    near = np.asarray(Image.fromarray(alpha).resize((256, 256)).point(lambda v: 255 * (0 < v < 255))) > 0
    assert abs(error[near].mean()) < 4  # neither bright nor dark
    assert np.square(error[near]).mean() < 0.95 * np.square(careless[near]).mean()


@pytest.mark.parametrize("background", [0, 255])
def test_a_cut_out_of_one_colour_keeps_it_to_the_edge(background: int) -> None:
    alpha = np.asarray(shape(64))
    pixels = np.where(alpha[..., None] > 0, np.array([200, 90, 10], np.uint8), np.uint8(255 - background))
    result = restore_picture(Picture(pixels, alpha), bicubic)
    assert result.alpha is not None
    mixed = composite(np.broadcast_to([200, 90, 10], (256, 256, 3)), result.alpha, background)
    assert np.abs(composite(result.pixels, result.alpha, background) - mixed).max() <= 1.5


def test_opaque_alpha_costs_nothing_and_stays() -> None:
    pixels = skimage.data.astronaut()[:32, :32]
    plain = restore_picture(Picture(pixels, None, metadata(), ("a notice",)), bicubic)
    opaque = restore_picture(Picture(pixels, np.full((32, 32), 255, np.uint8)), bicubic)
    assert np.array_equal(plain.pixels, opaque.pixels)
    assert opaque.alpha is not None
    assert opaque.alpha.min() == 255
    assert (plain.metadata, plain.notices) == (metadata(), ("a notice",))
