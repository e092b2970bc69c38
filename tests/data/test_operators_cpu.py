"""The OpenCV operators agree with the torch operators, and tabulated Poisson counts follow the distribution."""

from __future__ import annotations

import sys

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

pytest.importorskip("cv2", reason="OpenCV is not installed (extra: train)")

from tests.conftest import as_batch
from tsdsr.data import operators, operators_cpu
from tsdsr.data.poisson import poisson_counts
from tsdsr.data.second_order import KernelRecord, make_kernels
from tsdsr.errors import InvalidInputError, MissingDependencyError

KERNELS = {
    "isotropic": KernelRecord("gaussian", 21, (2.3, 2.3)),
    "small": KernelRecord("gaussian", 7, (0.4, 0.9), angle=0.7),
    "anisotropic": KernelRecord("gaussian", 21, (3.0, 0.8), angle=0.7),
    "peaked": KernelRecord("generalized", 21, (2.0, 2.5), angle=0.2, beta=0.5),
    "plateau": KernelRecord("plateau", 15, (1.0, 2.0), angle=-1, beta=1.5),
    "sinc": KernelRecord("sinc", 21, cutoff=1.3),
    "none": KernelRecord(),
}


@pytest.fixture
def images(photo: Image.Image) -> Tensor:
    """Two pictures (2, 3, 95, 128), one side odd."""
    parts = [photo.crop((180, 60, 308, 155)), photo.crop((0, 300, 128, 395))]
    return torch.cat([as_batch(part) for part in parts])


@pytest.mark.parametrize("name", KERNELS)
@pytest.mark.parametrize("size", [(95, 128), (9, 128)])
def test_filters_agree(images: Tensor, name: str, size: tuple[int, int]) -> None:
    """Within a fortieth of a grey level, also where the border is wider than the picture."""
    x, kernels = images[..., : size[0], : size[1]], make_kernels([KERNELS[name]] * 2)
    torch.testing.assert_close(
        operators_cpu.filter2d(x, kernels), operators.filter2d(x, kernels), rtol=0, atol=1e-4, check_stride=False
    )


def test_filters_are_not_mirrored_and_take_one_channel() -> None:
    for size in (7, 21):
        kernel = torch.rand(1, size, size)
        impulse = torch.zeros(1, 1, 63, 63)
        impulse[..., 31, 31] = 1
        half = size // 2
        response = operators_cpu.filter2d(impulse, kernel)[0, 0, 31 - half : 32 + half, 31 - half : 32 + half]
        torch.testing.assert_close(response, kernel[0].flip(0, 1), rtol=0, atol=1e-4)
    with pytest.raises(InvalidInputError, match="k odd"):
        operators_cpu.filter2d(impulse, torch.ones(2, 7, 7))


@pytest.mark.parametrize("mode", operators.RESIZE_MODES)
@pytest.mark.parametrize("size", [(24, 32), (150, 200), (95, 128), (40, 200), (143, 255)])
def test_resizing_agrees(images: Tensor, mode: operators.ResizeMode, size: tuple[int, int]) -> None:
    for antialias in (False, True):
        expected = operators.resize(images, size, mode, antialias)
        result = operators_cpu.resize(images, size, mode, antialias)
        torch.testing.assert_close(result, expected, rtol=0, atol=1e-4, check_stride=False)


@pytest.mark.parametrize("quality", [30.0, 60.4, 95.0])
def test_jpeg_agrees_with_pillow(images: Tensor, quality: float) -> None:
    q = torch.full((2,), quality)
    difference = (operators_cpu.jpeg(images, q) - operators.jpeg(images, q)).abs()
    assert difference.mean() < 0.25 / 255
    assert (difference > 1.5 / 255).float().mean() < 0.01


def test_sharpening_and_rounding_agree(images: Tensor) -> None:
    sharp = operators_cpu.unsharp_mask(images)
    torch.testing.assert_close(sharp, operators.unsharp_mask(images), rtol=0, atol=1e-4, check_stride=False)
    wild = images * 3 - 1
    torch.testing.assert_close(operators_cpu.quantise(wild), operators.quantise(wild), check_stride=False)


@pytest.mark.parametrize("noise", ["add_gaussian_noise", "add_poisson_noise"])
def test_noise_has_the_same_strength_and_repeats(images: Tensor, noise: str) -> None:
    x = torch.nn.functional.interpolate(images, scale_factor=4.0) * 0.6 + 0.2
    strength = torch.tensor([2.0, 0.7]) * (10 if noise == "add_gaussian_noise" else 1)
    grey = torch.tensor([False, True])

    def run(module: object) -> Tensor:
        return getattr(module, noise)(x, strength, grey, torch.Generator().manual_seed(5)) - x  # type: ignore[no-any-return]

    ours, theirs = run(operators_cpu), run(operators)
    for i in range(2):
        assert ours[i].std().item() == pytest.approx(theirs[i].std().item(), rel=0.02)
        assert ours[i].mean().item() == pytest.approx(0, abs=ours[i].std().item() / 100)
    torch.testing.assert_close(ours[1, 0], ours[1, 2], rtol=0, atol=1e-6)
    assert not torch.equal(ours[0, 0], ours[0, 2])
    assert torch.equal(ours, run(operators_cpu))


@pytest.mark.parametrize("photons", [1, 16, 256])
def test_counts_follow_the_poisson_distribution(photons: int) -> None:
    """Frequencies of every count against the closed form, at three intensities."""
    draws = 400_000
    for level in (0, 3, 100, 255):
        mean = level * photons / 255
        counts = poisson_counts(np.full(draws, level, np.uint8), photons, torch.Generator().manual_seed(level))
        k = torch.arange(400, dtype=torch.float64)
        expected = torch.exp(torch.xlogy(k, torch.tensor(mean)) - mean - torch.lgamma(k + 1)).numpy()
        observed = np.bincount(counts.astype(int), minlength=400) / draws
        deviation = np.sqrt(expected * (1 - expected) / draws)
        assert np.all(np.abs(observed - expected) <= 5.5 * deviation + 3 / draws)


def test_missing_opencv_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    from tsdsr.data.second_order import operators_for

    monkeypatch.setitem(sys.modules, "cv2", None)
    monkeypatch.delitem(sys.modules, "tsdsr.data.operators_cpu")
    monkeypatch.delattr("tsdsr.data.operators_cpu")
    with pytest.raises(MissingDependencyError, match=r"\.\[train\]"):
        operators_for(torch.device("cpu"))


def test_the_whole_recipe_agrees_but_for_the_noise(images: Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    """With noise off, the records give the same picture through either set of operators."""
    from tsdsr.data import second_order as degradation
    from tsdsr.data.degradation_presets import PRESETS

    recipe = degradation.SecondOrderDegradation(PRESETS["osediff"])
    generator = torch.Generator().manual_seed(2)
    for module in (operators, operators_cpu):
        for name in ("add_gaussian_noise", "add_poisson_noise"):
            monkeypatch.setattr(module, name, lambda x, *_: x.clamp(0, 1))
    records = [recipe.draw((95, 128), generator) for _ in range(2)]
    fast = recipe.apply(images, records)
    monkeypatch.setattr(degradation, "operators_for", lambda device: operators)
    assert (fast - recipe.apply(images, records)).abs().mean() < 0.5 / 255
