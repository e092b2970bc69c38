from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import skimage.data
import torch
from PIL import Image

from tests.images.pictures import metadata
from tests.images.test_transparency import shape
from tsdsr.images.picture import Picture, Pixels
from tsdsr.images.reading import read_picture
from tsdsr.images.writing import write_picture
from tsdsr.pipeline.files import restore_picture
from tsdsr.pipeline.loading import load_pipeline
from tsdsr.pipeline.pipeline import OneStepSRPipeline


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
    mini = partial(load_pipeline("mini", "cpu", "fp32").upscale_pixels, scale=4.0)
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


def test_sixteen_bits_have_no_step_of_eight_in_between(mini_pipe: OneStepSRPipeline, tmp_path: Path) -> None:
    ramp = np.linspace(20000, 24000, 64 * 64).astype(np.uint16).reshape(64, 64, 1)
    for pixels in (ramp, ramp.repeat(3, 2)):
        for suffix in (".png", ".tif"):
            write_picture(Picture(pixels), tmp_path / f"ramp{suffix}")
            picture = read_picture(tmp_path / f"ramp{suffix}")
            assert len(np.unique(picture.pixels)) > 3000  # an 8-bit step would leave 17
            result = restore_picture(picture, partial(mini_pipe.upscale_pixels, scale=2.0))
            write_picture(result, tmp_path / f"large{suffix}")
            large = read_picture(tmp_path / f"large{suffix}").pixels
            assert large.shape == (128, 128, pixels.shape[2])
            assert len(np.unique(large[..., 0])) > 2000
            low, high = int(large.min()), int(large.max())
            assert high - low < 65535


def test_grey_stays_grey_and_is_what_rgb_would_be(mini_pipe: OneStepSRPipeline) -> None:
    grey = skimage.data.camera()[:32, :32, None]
    result = mini_pipe.upscale_pixels(grey, 2.0)
    colour = mini_pipe.upscale_pixels(grey.repeat(3, 2), 2.0)
    assert result.shape == (64, 64, 1)
    assert np.abs(colour.mean(-1) - result[..., 0]).max() <= 1


def test_eight_bits_equal_the_pipeline_on_images(mini_pipe: OneStepSRPipeline) -> None:
    pixels = skimage.data.astronaut()[:32, :40]
    expected = np.asarray(mini_pipe(Image.fromarray(pixels), 2.0).images[0])
    assert np.array_equal(mini_pipe.upscale_pixels(pixels, 2.0), expected)
    target = mini_pipe.upscale_pixels(pixels, target_size=(50, 48), generator=torch.Generator().manual_seed(0))
    assert target.shape == (48, 50, 3)


def test_a_whole_run_keeps_everything(mini_pipe: OneStepSRPipeline, tmp_path: Path) -> None:
    source = Picture(skimage.data.astronaut()[:48, :64], np.asarray(shape().resize((64, 48))), metadata())
    write_picture(source, tmp_path / "a.png")
    picture = restore_picture(read_picture(tmp_path / "a.png"), partial(mini_pipe.upscale_pixels, scale=2.0))
    assert write_picture(picture, tmp_path / "b.webp") == ()
    found = read_picture(tmp_path / "b.webp")
    assert (found.width, found.height, found.alpha is None) == (128, 96, False)
    assert found.metadata.icc == metadata().icc
    assert found.metadata.dpi == (300.0, 150.0)
    assert replace(found, notices=()).notices == ()
