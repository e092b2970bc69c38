from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from tsdsr.data.camera import CameraDegradation, defocus_kernel, demosaic, mosaic, smeared, to_linear, to_srgb
from tsdsr.data.operators import luminance
from tsdsr.errors import ConfigError, InvalidInputError

QUIET = CameraDegradation(photons=(1e9, 1e9), read_noise=(1e-9, 1e-9), sharpen_prob=0, jpeg_prob=0)
SITES = [(top, left) for top in (0, 1) for left in (0, 1)]


@pytest.fixture
def image() -> Tensor:
    return torch.rand(3, 64, 64, generator=torch.Generator().manual_seed(0))


def test_it_is_a_function_of_the_seed_on_the_8_bit_grid(image: Tensor) -> None:
    def shot(seed: int) -> Tensor:
        return CameraDegradation()(image, (16, 20), np.random.default_rng(seed))

    assert shot(1).shape == (3, 16, 20)
    assert torch.equal(shot(1), shot(1))
    assert not torch.equal(shot(1), shot(2))
    torch.testing.assert_close(shot(1) * 255, (shot(1) * 255).round())


def test_linear_light_and_back() -> None:
    x = torch.linspace(0, 1, 1001)
    torch.testing.assert_close(to_srgb(to_linear(x)), x, atol=1e-6, rtol=0)
    assert to_linear(torch.tensor(0.5)).item() == pytest.approx(0.2140, abs=1e-4)


@pytest.mark.parametrize("gradient", [False, True])
@pytest.mark.parametrize(("top", "left"), SITES)
def test_a_mosaic_keeps_one_colour_and_gets_the_others_back_where_nothing_changes(
    top: int, left: int, gradient: bool
) -> None:
    colour = torch.tensor([0.9, 0.5, 0.1])[None, :, None, None].expand(1, 3, 8, 10)
    raw = mosaic(colour, top, left)
    assert raw[0, 0, top, left] == 0.9
    assert raw[0, 0, 1 - top, 1 - left] == pytest.approx(0.1)
    assert raw[0, 0, top, 1 - left] == raw[0, 0, 1 - top, left] == 0.5
    torch.testing.assert_close(demosaic(raw, top, left, gradient), colour)


def test_gradient_correction_is_sharper_on_grey_detail(image: Tensor) -> None:
    grey = image[:1].expand(3, -1, -1)[None]
    errors = [(demosaic(mosaic(grey, 0, 1), 0, 1, gradient) - grey).abs().mean() for gradient in (True, False)]
    assert errors[0] < 0.9 * errors[1]


def test_light_is_averaged_not_srgb_values() -> None:
    """Half black, half white, blurred away, is half the light: 188 of 255, not 128."""
    stripes = torch.zeros(3, 64, 64)
    stripes[:, :, ::2] = 1
    shot = QUIET(stripes, (16, 16), np.random.default_rng(0))
    torch.testing.assert_close(shot, torch.full_like(shot, 188 / 255), atol=2 / 255, rtol=0)


def test_few_photons_make_much_noise_and_more_where_it_is_bright() -> None:
    def spread(level: float, photons: float) -> float:
        settings = CameraDegradation(
            photons=(photons, photons), read_noise=(1e-9, 1e-9), sharpen_prob=0, jpeg_prob=0, gradient_prob=0
        )
        flat = to_srgb(torch.full((3, 128, 128), level))
        return float(to_linear(settings(flat, (64, 64), np.random.default_rng(0))).std())

    assert spread(0.4, 400) > 2 * spread(0.4, 4000)
    assert spread(0.4, 400) > 1.5 * spread(0.1, 400)


def test_defocus_has_the_spread_asked_for_and_a_flat_top() -> None:
    kernel = defocus_kernel(3.0, 3.0)
    middle = kernel.shape[0] // 2
    y = torch.arange(-middle, middle + 1.0)
    assert float((kernel.sum(1) * y**2).sum().sqrt()) == pytest.approx(3.0, rel=0.05)
    assert kernel[middle, middle + 3] > 0.9 * kernel[middle, middle]


def test_smearing_flattens_what_is_faint_and_keeps_edges(image: Tensor) -> None:
    """Noise of 0.02 beside a step of 0.6, and the slope of a linear fit where variance is ten times the threshold's."""
    noise = 0.02 * torch.randn(1, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    step = torch.full((1, 3, 32, 32), 0.2)
    step[..., 16:] = 0.8
    smooth = smeared(step + noise, 0.06)
    assert smooth[..., :12].std() < 0.45 * noise.std()
    assert (smooth[..., 20:].mean() - smooth[..., :12].mean()).item() == pytest.approx(0.6, abs=0.01)
    assert (smooth - step).abs()[..., 14:18].max() < 0.1
    grey = image[:1, :32, :32].expand(3, -1, -1)[None]
    torch.testing.assert_close(smeared(grey, 1e-6), grey, rtol=0, atol=1e-3)
    flat = smeared(grey, 100.0)
    assert flat.std() < 0.3 * grey.std()


def test_smearing_is_the_guided_filter_of_kornia(image: Tensor) -> None:
    filters = pytest.importorskip("kornia.filters", reason="kornia is not installed (extra: train)")
    x = image[None]
    expected = filters.guided_blur(luminance(x), x, 5, 0.05**2, border_type="reflect")
    torch.testing.assert_close(smeared(x, 0.05), expected, rtol=0, atol=1e-5)


def test_smearing_follows_demosaicing_and_leaves_other_settings_their_draws(image: Tensor) -> None:
    def shot(**settings: Any) -> Tensor:
        camera = CameraDegradation(photons=(400, 5000), jpeg_prob=0.0, sharpen_prob=0.0, **settings)
        return camera(image, (32, 32), np.random.default_rng(4))

    plain = shot()
    assert torch.equal(plain, shot(smear_prob=0.0, smear_contrast=(0.5, 0.9)))
    smooth = shot(smear_prob=1.0, smear_contrast=(0.05, 0.05))
    assert (smooth - plain).abs().mean() > 0.01
    torch.testing.assert_close(smooth, smeared(plain[None], 0.05)[0].clamp(0, 1), rtol=0, atol=2 / 255)


@pytest.mark.parametrize(
    "wrong",
    [{"photons": (0.0, 1.0)}, {"blur_sigma": (2.0, 1.0)}, {"jpeg_quality": (50, 101)}, {"smear_contrast": (0.2, 0.1)}],
)
def test_impossible_settings_are_refused(image: Tensor, wrong: dict[str, tuple[float, float]]) -> None:
    with pytest.raises(ConfigError):
        CameraDegradation(**wrong)  # type: ignore[arg-type]
    with pytest.raises(InvalidInputError, match="exceeds"):
        CameraDegradation()(image, (65, 16), np.random.default_rng(0))
