"""Flat and neutral areas: the model here changes every pixel by noise, as a network does at its worst."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from tests.kinds import DEVICES, on_both, tensor
from tsdsr.arrays import ArrayDevice
from tsdsr.pipeline.diffusers_pipeline import OneStepSRPipeline
from tsdsr.pipeline.plain_areas import PlainAreas
from tsdsr.resize import upsample_bicubic


@pytest.fixture
def noisy(mini_pipe: OneStepSRPipeline, monkeypatch: pytest.MonkeyPatch) -> OneStepSRPipeline:
    """A pipeline whose model adds noise of ±0.1 that depends on the place."""
    noise = torch.rand(3, 1024, 1024, generator=torch.Generator().manual_seed(0)) * 0.2 - 0.1

    def restore(windows: Tensor, places: list[tuple[int, int]], *_: object) -> Tensor:
        height, width = windows.shape[-2:]
        added = torch.stack([noise[:, y : y + height, x : x + width] for y, x in places])
        return windows + added.repeat_interleave(len(windows) // len(places), 0)

    monkeypatch.setattr(mini_pipe, "_restore", restore)
    return mini_pipe


def follow(x: Tensor, restored: Tensor, device: ArrayDevice) -> Tensor:
    """Apply the weights to the whole of a result at four times the size of ``x``, on a device."""
    size = (4 * x.shape[-2], 4 * x.shape[-1])
    source = upsample_bicubic(x, size)
    areas = PlainAreas(x, size, device)
    return tensor(areas.follow(device.upload(restored), device.upload(source), range(size[0]), range(size[1])))


@pytest.mark.parametrize("color_fix", ["wavelet", "adain"])
@pytest.mark.parametrize("tile", [None, 64])
def test_flat_colours_come_out_exactly_up_to_the_border(
    noisy: OneStepSRPipeline, color_fix: str, tile: int | None
) -> None:
    for colour in ((255, 255, 255), (0, 0, 0), (0, 0, 255), (255, 0, 0), (13, 200, 77), (128, 127, 128)):
        x = np.full((20, 30, 3), colour, np.uint8)
        result = noisy.upscale_pixels(x, 4, tile=tile, color_fix=color_fix)  # type: ignore[arg-type]
        assert (result == np.array(colour)).all()


def test_a_flat_area_is_exact_from_six_pixels_beside_a_bar(noisy: OneStepSRPipeline) -> None:
    x = np.full((24, 40, 3), 255, np.uint8)
    x[:, 18:22] = (10, 20, 200)
    result = noisy.upscale_pixels(x, 4)
    assert (result[:, : 72 - 6] == 255).all()
    assert (result[:, 88 + 6 :] == 255).all()
    assert (result[:, 64:96].std((0, 1)) > 20).all()


def test_flat_within_a_level_stays_within_a_level(noisy: OneStepSRPipeline) -> None:
    x = np.random.default_rng(0).integers(99, 102, (32, 32, 3), dtype=np.uint8)
    result = noisy.upscale_pixels(x, 4).astype(int)
    assert abs(result - 100).max() <= 2  # bicubic interpolation itself passes a little beyond its input


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
@pytest.mark.parametrize("tile", [None, 64])
@pytest.mark.parametrize("color_fix", ["wavelet", "adain"])
def test_grey_stored_as_rgb_comes_out_grey_as_with_one_channel(
    noisy: OneStepSRPipeline, dtype: type[np.generic], tile: int | None, color_fix: str
) -> None:
    most = 1 if dtype is np.float32 else np.iinfo(dtype).max  # type: ignore[type-var]
    grey = (np.random.default_rng(0).random((20, 26, 1)) * most).astype(dtype)
    result = noisy.upscale_pixels(grey.repeat(3, 2), 4, tile=tile, color_fix=color_fix)  # type: ignore[arg-type]
    assert (result == result[..., :1]).all()
    single = noisy.upscale_pixels(grey, 4, tile=tile, color_fix=color_fix)  # type: ignore[arg-type]
    step = 1e-6 if dtype is np.float32 else 1
    assert np.abs(result[..., :1].astype(float) - single).max() <= step
    assert single.astype(float).std() > 0.1 * most


def spread(x: np.ndarray) -> np.ndarray:
    return np.asarray(x.max(-1).astype(int) - x.min(-1))


def test_a_nearly_neutral_picture_gets_no_new_colours(noisy: OneStepSRPipeline) -> None:
    """Chroma noise of a JPEG: the result has the input's, not the model's."""
    random = np.random.default_rng(0)
    grey = random.integers(40, 200, (40, 40, 1))
    x = (grey + random.integers(-3, 4, (40, 40, 3))).astype(np.uint8)
    result = noisy.upscale_pixels(x, 4)
    assert spread(result).max() <= spread(x).max() * 1.5
    assert spread(result).mean() <= spread(x).mean() * 1.1


def test_a_toned_picture_keeps_its_tone(noisy: OneStepSRPipeline) -> None:
    grey = np.linspace(30, 220, 40)[None, :, None] * np.ones((40, 1, 1))
    for tone in ((8, 0, -8), (3, 0, -4), (30, 4, -20)):
        x = (grey + np.array(tone)).round().astype(np.uint8)
        result = noisy.upscale_pixels(x, 4).astype(int)
        means = (result - result.mean(-1, keepdims=True)).mean((0, 1))
        assert np.abs(means - (np.array(tone) - np.mean(tone))).max() < 0.6


@on_both
def test_a_coloured_picture_is_left_as_the_model_made_it(device: ArrayDevice) -> None:
    random = torch.Generator().manual_seed(0)
    x, restored = torch.rand(1, 3, 24, 24, generator=random), torch.rand(1, 3, 96, 96, generator=random)
    assert torch.equal(follow(x, restored, device), restored)


@on_both
def test_a_neutral_part_of_a_coloured_picture_is_neutral_and_the_other_unchanged(device: ArrayDevice) -> None:
    random = torch.Generator().manual_seed(0)
    x, restored = torch.rand(1, 3, 32, 32, generator=random), torch.rand(1, 3, 128, 128, generator=random)
    x[..., :16] = x[:, :1, :, :16]
    result = follow(x, restored, device)
    torch.testing.assert_close(result[..., 80:], restored[..., 80:], rtol=0, atol=1e-6)
    left = result[..., :44]
    assert torch.equal(left, left[:, :1].expand_as(left))
    assert float(left.std()) > 0.1


@on_both
def test_each_picture_of_a_batch_is_judged_by_itself(device: ArrayDevice) -> None:
    random = torch.Generator().manual_seed(0)
    coloured, restored = torch.rand(1, 3, 16, 16, generator=random), torch.rand(2, 3, 64, 64, generator=random)
    nearly = coloured[:, :1] * 0.9 + 0.02 * torch.rand(1, 3, 16, 16, generator=random)
    result = follow(torch.cat([coloured, nearly]), restored, device)
    torch.testing.assert_close(result[0], restored[0], rtol=0, atol=1e-6)
    assert float((result[1].amax(0) - result[1].amin(0)).max()) < 0.06


@on_both
@pytest.mark.parametrize("scale", [1.0, 2.7, 4.0])
def test_weights_do_not_depend_on_the_window(device: ArrayDevice, scale: float) -> None:
    x = torch.randint(100, 104, (1, 3, 30, 44), generator=torch.Generator().manual_seed(0)).to(torch.uint8)
    x[..., 20:] = 77
    size = (round(30 * scale), round(44 * scale))
    areas = PlainAreas(x, size, device)
    whole = areas.weights(range(size[0]), range(size[1]))
    parts = areas.weights(range(5, 21), range(9, 30))
    for weight, part in zip(whole, parts, strict=True):
        assert weight is not None
        assert part is not None
        assert np.array_equal(weight[..., 5:21, 9:30], part)
    flat = whole[0]
    assert flat is not None
    assert bool((flat[..., round(22 * scale) :] == 1).all())


def test_without_alignment_the_result_is_the_models(noisy: OneStepSRPipeline) -> None:
    x = np.full((16, 16, 3), 100, np.uint8)
    assert np.ptp(noisy.upscale_pixels(x, 4, color_fix="none")) > 20


@on_both
def test_pictures_of_one_pixel_and_of_one_row(device: ArrayDevice) -> None:
    for shape in ((1, 1), (1, 9), (9, 1)):
        x = torch.full((1, 3, *shape), 0.4)
        restored = torch.rand(1, 3, 4 * shape[0], 4 * shape[1])
        torch.testing.assert_close(follow(x, restored, device), torch.full_like(restored, 0.4), rtol=0, atol=1e-6)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_weights_of_both_kinds_of_arrays_agree(photo: Image.Image, dtype: type[np.generic]) -> None:
    x = np.asarray(photo.crop((0, 0, 90, 70)), np.float32) / 255
    x[:30, :40] = 0.5
    x[:, 60:] = x[:, 60:].mean(-1, keepdims=True)
    most = 1 if dtype is np.float32 else np.iinfo(dtype).max  # type: ignore[type-var]
    pixels = (x * most).round().astype(dtype) if most > 1 else x
    found = [
        PlainAreas(pixels.transpose(2, 0, 1)[None], (280, 360), device).weights(range(280), range(360))
        for device in DEVICES
    ]
    for here, there in zip(*found, strict=True):
        assert here is not None
        np.testing.assert_allclose(here, there, rtol=0, atol=1e-5)
        assert 0 < here.mean() < 1
