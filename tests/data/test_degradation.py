from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from tsdsr.data.degradation import SimpleDegradation, blur, downscale, gaussian_kernel, jpeg, quantise
from tsdsr.errors import ConfigError, InvalidInputError
from tsdsr.pipeline.tensors import to_tensors


@pytest.fixture
def image(photo: Image.Image) -> Tensor:
    return to_tensors(photo.crop((180, 60, 308, 188)))[0][0][0]


def moments(kernel: Tensor) -> tuple[float, float, float]:
    axis = torch.arange(len(kernel)) - len(kernel) // 2
    y, x = torch.meshgrid(axis, axis, indexing="ij")
    return float((kernel * x * x).sum()), float((kernel * y * y).sum()), float((kernel * x * y).sum())


def test_kernels_have_the_asked_moments() -> None:
    xx, yy, xy = moments(gaussian_kernel(2.0, 1.0))
    assert xx == pytest.approx(4, rel=0.05)
    assert yy == pytest.approx(1, rel=0.05)
    assert xy == pytest.approx(0, abs=1e-6)
    xx, yy, xy = moments(gaussian_kernel(2.0, 1.0, angle=np.pi / 4))
    assert xx == pytest.approx(yy, rel=1e-4)
    assert xy == pytest.approx(1.5, rel=0.05)
    assert gaussian_kernel(0.2, 0.2).sum().item() == pytest.approx(1)


def test_blur_of_an_impulse_is_the_kernel_and_a_flat_image_stays_flat() -> None:
    kernel = gaussian_kernel(1.0, 2.0, 0.3)
    impulse = torch.zeros(1, 3, 31, 31)
    impulse[..., 15, 15] = 1
    half = len(kernel) // 2
    window = slice(15 - half, 16 + half)
    torch.testing.assert_close(blur(impulse, kernel)[0, 1, window, window], kernel.flip(0, 1))
    flat = torch.full((1, 3, 5, 5), 0.3)  # smaller than the kernel: borders are replicated
    torch.testing.assert_close(blur(flat, kernel), flat)


@pytest.mark.parametrize("mode", ["area", "bilinear", "bicubic"])
def test_downscaling_keeps_the_mean_and_does_not_alias(mode: str) -> None:
    x = torch.rand(1, 3, 64, 64)
    assert downscale(x, (16, 16), mode).mean().item() == pytest.approx(x.mean().item(), abs=5e-3)
    stripes = torch.zeros(1, 3, 64, 64)
    stripes[..., ::2] = 1
    assert downscale(stripes, (16, 16), mode).std() < 0.03


def test_jpeg_is_what_pillow_decodes(image: Tensor) -> None:
    rough, fine = jpeg(image, 20), jpeg(image, 95)
    assert (rough - image).abs().mean() > 2 * (fine - image).abs().mean() > 0
    assert torch.equal(jpeg(image, 50), jpeg(quantise(image), 50))
    assert torch.equal((rough * 255).round() / 255, rough)


def test_the_recipe_is_a_function_of_the_seed(image: Tensor) -> None:
    def run(seed: int) -> Tensor:
        return SimpleDegradation()(image, (32, 32), np.random.default_rng(seed))

    assert torch.equal(run(1), run(1))
    assert not torch.equal(run(1), run(2))
    assert run(1).shape == (3, 32, 32)
    assert run(1).min() >= 0
    assert run(1).max() <= 1


def test_each_part_can_be_turned_off(image: Tensor) -> None:
    nothing = SimpleDegradation(blur_prob=0, noise_prob=0, jpeg_prob=0, resize_modes=("area",))
    result = nothing(image, (32, 32), np.random.default_rng(0))
    torch.testing.assert_close(result, quantise(downscale(image[None], (32, 32), "area")[0]))


def test_noise_has_the_asked_strength() -> None:
    grey = torch.full((3, 256, 256), 0.5)
    settings = SimpleDegradation(blur_prob=0, jpeg_prob=0, noise_prob=1, noise_sigma=(8, 8), grey_noise_prob=0)
    noisy = settings(grey, (256, 256), np.random.default_rng(0))
    assert noisy.std().item() * 255 == pytest.approx(8, rel=0.05)
    coupled = dataclasses.replace(settings, grey_noise_prob=1.0)(grey, (256, 256), np.random.default_rng(0))
    assert torch.equal(coupled[0], coupled[1])
    assert not torch.equal(noisy[0], noisy[1])


def test_impossible_settings_are_refused(image: Tensor) -> None:
    for wrong in ({"blur_sigma": (3.0, 1.0)}, {"jpeg_quality": (50, 101)}, {"resize_modes": ("nearest",)}):
        with pytest.raises(ConfigError):
            SimpleDegradation(**wrong)
    with pytest.raises(InvalidInputError):
        SimpleDegradation()(image, (129, 32), np.random.default_rng(0))
