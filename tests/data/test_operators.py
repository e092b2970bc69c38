"""Each operator: shapes, invalid input, reproducibility by seed, and known values."""

from __future__ import annotations

import sys

import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from tests.conftest import as_batch
from tsdsr.data.kernels import delta_kernels, sinc_kernels, smooth_kernels
from tsdsr.data.operators import (
    add_gaussian_noise,
    add_poisson_noise,
    filter2d,
    jpeg,
    jpeg_kornia,
    luminance,
    quantise,
    resize,
    unsharp_mask,
)
from tsdsr.errors import InvalidInputError, MissingDependencyError

DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.cuda)]
on_each_device = pytest.mark.parametrize("device", DEVICES)


@pytest.fixture
def images(photo: Image.Image) -> Tensor:
    """Two different pictures (2, 3, 96, 128)."""
    parts = [photo.crop((180, 60, 308, 156)), photo.crop((0, 300, 128, 396))]
    return torch.cat([as_batch(part) for part in parts])


def kernels(count: int, size: int) -> Tensor:
    sigma = torch.linspace(0.6, 3, 2 * count).reshape(count, 2)
    return smooth_kernels(
        ["gaussian"] * count, sigma, torch.linspace(0, 2, count), torch.ones(count), torch.full((count,), size)
    )


def generator(device: str = "cpu") -> torch.Generator:
    return torch.Generator(device).manual_seed(3)


@on_each_device
@pytest.mark.parametrize("size", [7, 9, 11, 21])
def test_filters_equal_plain_convolution(images: Tensor, size: int, device: str) -> None:
    """Both ways, direct and through the Fourier transform."""
    k = kernels(2, size)
    half = size // 2
    padded = F.pad(images.double(), (half,) * 4, mode="reflect")
    small = k[:, 10 - half : 11 + half, 10 - half : 11 + half].double()
    expected = torch.cat(
        [F.conv2d(padded[i : i + 1], small[i].expand(3, 1, size, size), groups=3) for i in range(2)]
    ).float()
    result = filter2d(images.to(device), k)
    torch.testing.assert_close(result.cpu(), expected, rtol=0, atol=1e-5)


def test_filters_are_not_mirrored() -> None:
    """Correlation: the response to an impulse is the kernel turned by 180 degrees."""
    for size in (7, 21):
        kernel = torch.rand(1, size, size)
        impulse = torch.zeros(1, 1, 63, 63)
        impulse[..., 31, 31] = 1
        half = size // 2
        response = filter2d(impulse, kernel)[0, 0, 31 - half : 32 + half, 31 - half : 32 + half]
        torch.testing.assert_close(response, kernel[0].flip(0, 1), rtol=0, atol=1e-5)


def test_filters_leave_flat_images_flat_and_deltas_do_nothing(images: Tensor) -> None:
    flat = torch.full((1, 3, 8, 9), 0.4)
    for kernel in (kernels(1, 21), sinc_kernels(torch.tensor([2.0]), torch.tensor([21]))):
        torch.testing.assert_close(filter2d(flat, kernel), flat)
    assert torch.equal(filter2d(images, delta_kernels(2)), images)


def test_filters_refuse_other_shapes(images: Tensor) -> None:
    for wrong in (torch.ones(3, 7, 7), torch.ones(2, 8, 8), torch.ones(7, 7)):
        with pytest.raises(InvalidInputError, match="k odd"):
            filter2d(images, wrong)


@pytest.mark.parametrize("mode", ["area", "bilinear", "bicubic"])
@pytest.mark.parametrize("size", [(24, 32), (150, 200), (96, 128), (95, 40)])
def test_resizing_keeps_flat_images_and_gives_the_size(images: Tensor, mode: str, size: tuple[int, int]) -> None:
    assert resize(images, size, mode).shape == (2, 3, *size)
    flat = torch.full((1, 3, 17, 23), 0.25)
    torch.testing.assert_close(resize(flat, size, mode), torch.full((1, 3, *size), 0.25))


def test_only_antialiased_shrinking_removes_stripes() -> None:
    stripes = torch.zeros(1, 3, 64, 64)
    stripes[..., ::2] = 1
    assert resize(stripes, (15, 15), "bicubic", antialias=True).std() < 0.05
    assert resize(stripes, (15, 15), "bicubic", antialias=False).std() > 0.2
    assert resize(stripes, (16, 16), "area").std() < 1e-6


@on_each_device
def test_gaussian_noise_has_the_asked_strength(device: str) -> None:
    x = torch.full((3, 3, 256, 256), 0.5, device=device)
    sigma, grey = torch.tensor([2.0, 10.0, 30.0]), torch.tensor([False, True, False])
    noisy = add_gaussian_noise(x, sigma, grey, generator(device))
    for i, s in enumerate(sigma.tolist()):
        assert (noisy[i] - 0.5).std().item() * 255 == pytest.approx(s, rel=0.03)
        assert (noisy[i] - 0.5).mean().item() * 255 == pytest.approx(0, abs=s / 50)
    assert torch.equal(noisy[1, 0], noisy[1, 2])
    assert not torch.equal(noisy[0, 0], noisy[0, 2])
    assert torch.equal(noisy, add_gaussian_noise(x, sigma, grey, generator(device)))
    assert add_gaussian_noise(x * 2, sigma, grey, generator(device)).max() <= 1


@on_each_device
def test_poisson_noise_grows_with_the_root_of_intensity(device: str) -> None:
    """With n photons at full intensity the variance is intensity / n; n is the number of levels as a power of two."""
    ramp = (torch.arange(256.0) / 255).reshape(1, 1, 1, 256).expand(1, 3, 512, 256).contiguous().to(device)
    noise = add_poisson_noise(ramp, torch.tensor([1.0]), torch.tensor([False]), generator(device)) - ramp
    for level in (40, 90, 160):
        measured = noise[..., level].var().item()
        assert measured == pytest.approx(level / 255 / 256, rel=0.15)
    strong = add_poisson_noise(ramp, torch.tensor([2.0]), torch.tensor([False]), generator(device)) - ramp
    torch.testing.assert_close(strong[..., 90], 2 * noise[..., 90], rtol=1e-3, atol=1e-5)
    grey = add_poisson_noise(ramp, torch.tensor([1.0]), torch.tensor([True]), generator(device)) - ramp
    torch.testing.assert_close(grey[:, 0, :, 90], grey[:, 2, :, 90], rtol=0, atol=1e-6)
    assert torch.equal(
        noise, add_poisson_noise(ramp, torch.tensor([1.0]), torch.tensor([False]), generator(device)) - ramp
    )


def test_fewer_levels_mean_fewer_photons() -> None:
    two = torch.zeros(1, 3, 400, 400)
    two[..., 200:] = 1
    noise = add_poisson_noise(two * 0.5, torch.tensor([1.0]), torch.tensor([False]), generator()) - two * 0.5
    assert noise[..., 200:].var().item() > 0.1  # two levels: n = 2
    assert noise[..., :200].abs().max() == 0


def test_luminance_weights_add_up_to_one() -> None:
    assert luminance(torch.ones(1, 3, 2, 2)).shape == (1, 1, 2, 2)
    torch.testing.assert_close(luminance(torch.ones(1, 3, 2, 2)), torch.ones(1, 1, 2, 2), rtol=1e-3, atol=0)


def test_jpeg_gets_worse_with_lower_quality(images: Tensor) -> None:
    errors = [(jpeg(images, torch.full((2,), q)) - images).abs().mean().item() for q in (10.0, 40.0, 95.0)]
    assert errors[0] > errors[1] > errors[2] > 0
    mixed = jpeg(images, torch.tensor([10.0, 95.0]))
    assert torch.equal(mixed[0], jpeg(images[:1], torch.tensor([10.0]))[0])
    assert torch.equal(mixed[1], jpeg(images[1:], torch.tensor([95.0]))[0])
    assert torch.equal(quantise(mixed), mixed)


@pytest.mark.parametrize("quality", [30.0, 60.0, 95.0])
@pytest.mark.parametrize("edge", [96, 77])
def test_both_jpeg_codecs_agree(images: Tensor, quality: float, edge: int) -> None:
    """They differ in rounding and in how chroma is enlarged; against what compression does, that is little."""
    pytest.importorskip("kornia", reason="kornia is not installed (extra: train)")
    x, q = images[..., :edge, :edge], torch.full((2,), quality)
    pillow, kornia = jpeg(x, q), jpeg_kornia(x, q)
    assert kornia.shape == x.shape
    assert (pillow - kornia).abs().mean() < 0.35 * (pillow - x).abs().mean() + 1 / 255
    assert (pillow - kornia).abs().mean() < 2.5 / 255


def test_a_missing_codec_names_the_extra(images: Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "kornia.enhance", None)
    with pytest.raises(MissingDependencyError, match=r"\.\[train\]"):
        jpeg_kornia(images, torch.tensor([50.0, 50.0]))


def test_unsharp_masking_sharpens_edges_only() -> None:
    x = torch.full((1, 3, 160, 160), 0.3)
    x[..., 80:] = 0.7
    sharp = unsharp_mask(x)
    assert sharp[..., 81].mean() > 0.75
    assert sharp[..., 78].mean() < 0.25
    torch.testing.assert_close(sharp[..., :20], x[..., :20], rtol=0, atol=1e-3)
    assert torch.equal(unsharp_mask(torch.full((1, 3, 20, 20), 0.5)), torch.full((1, 3, 20, 20), 0.5))
    assert unsharp_mask(torch.rand(1, 3, 64, 64)).min() >= 0
