from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from tests.conftest import as_batch
from tsdsr.data.first_order import FirstOrderDegradation, gaussian_kernel
from tsdsr.data.operators import quantise, resize
from tsdsr.errors import ConfigError, InvalidInputError


@pytest.fixture
def image(photo: Image.Image) -> Tensor:
    return as_batch(photo.crop((180, 60, 308, 188)))[0]


def test_the_kernel_reaches_three_sigmas() -> None:
    assert gaussian_kernel(0.2, 0.3).shape == (3, 3)
    assert gaussian_kernel(3.0, 1.0, 0.5).shape == (19, 19)
    assert gaussian_kernel(3.0, 1.0, 0.5).sum().item() == pytest.approx(1)


def test_the_recipe_is_a_function_of_the_seed(image: Tensor) -> None:
    def run(seed: int) -> Tensor:
        return FirstOrderDegradation()(image, (32, 32), np.random.default_rng(seed))

    assert torch.equal(run(1), run(1))
    assert not torch.equal(run(1), run(2))
    assert run(1).shape == (3, 32, 32)
    assert run(1).min() >= 0
    assert run(1).max() <= 1


def test_each_part_can_be_turned_off(image: Tensor) -> None:
    nothing = FirstOrderDegradation(blur_prob=0, noise_prob=0, jpeg_prob=0, resize_modes=("area",))
    result = nothing(image, (32, 32), np.random.default_rng(0))
    torch.testing.assert_close(result, quantise(resize(image[None], (32, 32), "area")[0]))


def test_noise_has_the_asked_strength() -> None:
    grey = torch.full((3, 256, 256), 0.5)
    settings = FirstOrderDegradation(blur_prob=0, jpeg_prob=0, noise_prob=1, noise_sigma=(8, 8), grey_noise_prob=0)
    noisy = settings(grey, (256, 256), np.random.default_rng(0))
    assert noisy.std().item() * 255 == pytest.approx(8, rel=0.05)
    coupled = dataclasses.replace(settings, grey_noise_prob=1.0)(grey, (256, 256), np.random.default_rng(0))
    assert torch.equal(coupled[0], coupled[1])
    assert not torch.equal(noisy[0], noisy[1])


def test_sharpening_exaggerates_edges_and_leaves_flat_parts_alone() -> None:
    step = torch.full((3, 32, 32), 0.4)
    step[..., 16:] = 0.6
    plain = FirstOrderDegradation(blur_prob=0, noise_prob=0, jpeg_prob=0)
    sharp = dataclasses.replace(plain, sharpen_prob=1.0, sharpen_amount=(0.5, 0.5))
    sharpened = sharp(step, (32, 32), np.random.default_rng(0))
    assert sharpened.max() > 0.62
    assert sharpened.min() < 0.38
    torch.testing.assert_close(sharpened[..., :8], plain(step, (32, 32), np.random.default_rng(0))[..., :8])


def test_impossible_settings_are_refused(image: Tensor) -> None:
    for wrong in (
        {"blur_sigma": (3.0, 1.0)},
        {"sharpen_amount": (0.0, 1.0)},
        {"jpeg_quality": (50, 101)},
        {"resize_modes": ("nearest",)},
    ):
        with pytest.raises(ConfigError):
            FirstOrderDegradation(**wrong)
    with pytest.raises(InvalidInputError):
        FirstOrderDegradation()(image, (129, 32), np.random.default_rng(0))
