"""Streaming by tiles gives the same result as the whole image at once."""

from __future__ import annotations

import math
import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKL
from diffusers.models.attention_processor import Attention
from PIL import Image
from torch import Tensor

from tests.conftest import mini_prompt, sd3_prompt, tiny_mini, tiny_mmdit, tiny_vae
from tests.kinds import DEVICES, on_both, tensor
from tests.pipeline.seams import seam_energy
from tsdsr.arrays import ArrayDevice
from tsdsr.errors import InvalidInputError
from tsdsr.models.fixed_prompt import FixedPrompt
from tsdsr.models.groupnorm import SharedGroupNorms
from tsdsr.models.latents import Noise
from tsdsr.models.zoo import MINI
from tsdsr.pipeline.blending import AxisTiles
from tsdsr.pipeline.color import adain_color_fix, wavelet_color_fix
from tsdsr.pipeline.diffusers_loading import load_diffusers_pipeline
from tsdsr.pipeline.diffusers_pipeline import OneStepSRPipeline
from tsdsr.pipeline.stream import EnlargedImage, TileStream, padded_positions
from tsdsr.pipeline.tile_plan import TilePlan, plan_tiles
from tsdsr.resize import upsample_bicubic


def psnr(a: Tensor | np.ndarray, b: Tensor | np.ndarray) -> float:
    return -10 * math.log10(float(((a - b) ** 2).mean()) + 1e-20)


def pixels(photo: Image.Image, width: int, height: int) -> np.ndarray:
    return np.asarray(photo.crop((100, 50, 100 + width, 50 + height)), dtype=np.float32) / 255


@pytest.fixture(scope="module")
def mini() -> OneStepSRPipeline:
    return load_diffusers_pipeline("mini", "cpu", "fp32")


@on_both
@pytest.mark.parametrize("size", [(70, 90), (64, 48), (150, 33), (5, 200)])
def test_windows_are_those_of_the_padded_enlargement(device: ArrayDevice, size: tuple[int, int]) -> None:
    x = torch.rand(2, 3, 30, 31) if size[0] >= 30 and size[1] >= 31 else torch.rand(2, 3, 4, 20)
    rows, cols = (padded_positions(length, 16) for length in size)
    whole = upsample_bicubic(x, size)[..., rows[:, None], cols]
    image = EnlargedImage(x, size, 16, device)
    assert image.padded == whole.shape[-2:]
    height, width = image.padded
    for rows, cols in ((range(height), range(width)), (range(height - 9, height), range(width // 2, width))):
        expected = whole[..., rows.start : rows.stop, cols.start : cols.stop]
        torch.testing.assert_close(tensor(image.window(rows, cols)), expected, rtol=0, atol=2e-6)


@on_both
@pytest.mark.parametrize(("size", "tile"), [((600, 200), 128), ((130, 650), 64), ((333, 333), None), ((40, 40), 64)])
@pytest.mark.parametrize("color_fix", ["wavelet", "adain", "none"])
def test_colour_is_that_of_the_whole_image(
    monkeypatch: pytest.MonkeyPatch, device: ArrayDevice, size: tuple[int, int], tile: int | None, color_fix: str
) -> None:
    """The model is a fixed change of colour and contrast that depends on the place."""
    monkeypatch.setattr("tsdsr.pipeline.canvas._BLOCK", 50)
    monkeypatch.setattr("tsdsr.pipeline.canvas._SPOOL_BYTES", 1000)
    x = torch.rand(1, 3, size[0] // 2, size[1] // 2) * torch.linspace(0.3, 1, size[1] // 2)
    veil = torch.rand(1, 3, size[0] + 15, size[1] + 15)

    image, canvas, change = EnlargedImage(x, size, 16, device), torch.empty(1, 3, *size), device.upload(0.3 * veil)
    tiles = TileStream(image, canvas, TilePlan(tile, 16, 1, 64), color_fix)  # type: ignore[arg-type]
    for group in tiles:
        ((top, left),), (height, width) = group.places, group.windows.shape[-2:]
        tiles.put(group, 0.7 * group.windows + change[..., top : top + height, left : left + width])
    tiles.close()
    source = upsample_bicubic(x, size)
    x_hat = 0.7 * source + 0.3 * veil[..., : size[0], : size[1]]
    fix = {"wavelet": wavelet_color_fix, "adain": adain_color_fix, "none": lambda a, b: a}[color_fix]
    torch.testing.assert_close(canvas, fix(x_hat, source).clamp(0, 1), rtol=0, atol=1e-5)


def test_numpy_computes_without_torch() -> None:
    code = """
import sys
import numpy as np
from tsdsr.arrays import HostDevice
from tsdsr.pipeline.noise import noise_at, noise_fields
from tsdsr.pipeline.stream import EnlargedImage, TileStream
from tsdsr.pipeline.pixel_batches import empty_result, from_batches, to_pixels
from tsdsr.pipeline.tile_plan import TilePlan

(x,), kind = to_pixels(np.full((20, 30, 3), 77, np.uint8))
for color_fix in ("wavelet", "adain", "none"):
    canvas = empty_result(1, (80, 120), "pil", np.uint8)
    tiles = TileStream(EnlargedImage(x, (80, 120), 16, HostDevice()), canvas, TilePlan(64, 16, 1, 32), color_fix)
    for group in tiles:
        tiles.put(group, group.windows)
    tiles.close()
    assert set(from_batches([canvas], "pil")[0].getdata()) == {(77, 77, 77)}
assert noise_at(noise_fields(3, 2), [(0, 0)])((2, 16, 4, 4)).shape == (2, 16, 4, 4)
print([name for name in ("torch", "array_api_compat.torch") if name in sys.modules])
"""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("COV")}
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    assert result.stdout.strip() == "[]"


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
@pytest.mark.parametrize("color_fix", ["wavelet", "adain", "none"])
def test_numpy_and_torch_give_the_same_image(photo: Image.Image, dtype: type[np.generic], color_fix: str) -> None:
    """In floating point within 1e-5, and in integers but for ties."""
    most = 1.0 if dtype is np.float32 else float(np.iinfo(dtype).max)  # type: ignore[type-var]
    x = pixels(photo, 90, 70)
    x[:30, :40], x[:, 60:] = 0.5, x[:, 60:].mean(-1, keepdims=True)  # flat, and neutral
    given, results = (x * most).round().astype(dtype) if most > 1 else x, []
    for device in DEVICES:
        image = EnlargedImage(given.transpose(2, 0, 1)[None], (210, 270), 16, device)
        result = np.empty((210, 270, 3), dtype)
        plan = TilePlan(128, 32, 2, 64)
        tiles = TileStream(image, result.transpose(2, 0, 1)[None], plan, color_fix)  # type: ignore[arg-type]
        for group in tiles:
            tiles.put(group, 0.8 * group.windows + 0.1)
        tiles.close()
        results.append(result.astype(np.float64) / most)
    difference = np.abs(results[0] - results[1])
    assert difference.max() <= 1e-5 + (1 / most if most > 1 else 0)
    assert most != 255 or (difference > 0).mean() < 1e-3


@on_both
@pytest.mark.parametrize("size", [(96, 64), (64, 96)])
def test_windows_lie_where_their_places_say(device: ArrayDevice, size: tuple[int, int]) -> None:
    """Of a tall image and of a wide one, whose tiles are taken transposed."""
    x = torch.rand(2, 3, *size)
    image, canvas, calls = EnlargedImage(x, size, 16, device), torch.empty_like(x), []
    tiles = TileStream(image, canvas, TilePlan(48, 16, 2, 48), "none", lambda *counts: calls.append(counts))
    for group in tiles:
        for i, (top, left) in enumerate(group.places):
            expected = image.window(range(top, top + 48), range(left, left + 48))
            np.testing.assert_allclose(group.windows[2 * i : 2 * i + 2], expected, rtol=0, atol=2e-6)
        tiles.put(group, 1 - group.windows)
    tiles.close()
    torch.testing.assert_close(canvas, 1 - x, rtol=0, atol=2e-6)
    assert calls == [(4, 12), (8, 12), (12, 12)]


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
@pytest.mark.parametrize("channels", [1, 3])
def test_arrays_keep_their_precision_and_channels(
    mini_pipe: OneStepSRPipeline, dtype: type[np.generic], channels: int
) -> None:
    most = 1 if dtype is np.float32 else np.iinfo(dtype).max  # type: ignore[type-var]
    x = (np.random.default_rng(0).random((20, 24, channels)) * most).astype(dtype)
    result = mini_pipe.upscale_pixels(x, 3.3)
    assert result.dtype == dtype
    assert result.shape == (66, 79, channels)
    exact = mini_pipe.upscale_pixels((x / most).astype(np.float32), 3.3)
    assert np.abs(result / most - exact).max() <= 0.5001 / (1 if dtype is np.float32 else most) + 1e-6


def test_sixteen_bits_are_used(mini_pipe: OneStepSRPipeline) -> None:
    ramp = np.linspace(20000, 21000, 40 * 40).reshape(40, 40, 1).astype(np.uint16)
    assert len(np.unique(mini_pipe.upscale_pixels(ramp, 4))) > 1000


@pytest.mark.parametrize(
    "array",
    [np.zeros((4, 4)), np.zeros((4, 4, 4), np.uint8), np.zeros((4, 4, 3)), np.full((4, 4, 3), 2.0, np.float32)],
)
def test_unusable_arrays_are_refused(mini_pipe: OneStepSRPipeline, array: np.ndarray) -> None:
    with pytest.raises(InvalidInputError):
        mini_pipe.upscale_pixels(array)


def test_read_only_and_flipped_arrays_are_taken(mini_pipe: OneStepSRPipeline) -> None:
    x = np.random.default_rng(0).integers(0, 255, (12, 16, 3), dtype=np.uint8)
    expected = mini_pipe.upscale_pixels(x[::-1].copy())
    x.flags.writeable = False
    assert np.array_equal(mini_pipe.upscale_pixels(x[::-1]), expected)


@pytest.mark.parametrize(("width", "height", "scale"), [(160, 120, 4), (150, 200, 2.7)])
def test_tiles_of_mini_on_a_photograph(
    mini: OneStepSRPipeline, photo: Image.Image, width: int, height: int, scale: float
) -> None:
    x = pixels(photo, width, height)
    whole, tiled = (mini.upscale_pixels(x, scale, tile=tile) for tile in (None, 256))
    assert psnr(whole, tiled) > 60  # 45 is asked for


@pytest.mark.parametrize("kind", ["flat", "gradient", "oblique"])
def test_smooth_images_show_no_seam_in_mini(mini: OneStepSRPipeline, kind: str) -> None:
    """In what the model itself makes, a pattern below half a grey level; with colour alignment flat areas stay flat."""
    ramp = np.linspace(0.2, 0.8, 112, dtype=np.float32)[None, :, None] * np.ones((112, 112, 3), np.float32)
    x = {"flat": np.full_like(ramp, 0.4), "gradient": ramp, "oblique": (ramp + ramp.swapaxes(0, 1)) / 2}[kind]
    axis = AxisTiles.plan(448, 256, plan_tiles(MINI, (448, 448), 256).overlap, 16)
    assert axis.starts == (0, 192)
    borders = [(b, a + axis.tile) for a, b in zip(axis.starts, axis.starts[1:], strict=False)]
    whole, tiled = (
        torch.from_numpy(mini.upscale_pixels(x, 4, tile=tile, color_fix="none")).permute(2, 0, 1)[None]
        for tile in (None, 256)
    )
    assert (whole - tiled).abs().max() < 0.5 / 255
    for a, b in ((whole, tiled), (whole.mT, tiled.mT)):
        usual = seam_energy(a, borders, 16, 128)  # on a gradient it depends on the grey, with or without tiles
        # Where tiles overlap, the mean of two patterns is up to 7 % weaker than either.
        assert abs(seam_energy(b, borders, 16, 128) / usual - 1) < 0.1
        assert kind != "flat" or abs(usual - 1) < 0.02


def test_the_seam_measure_sees_seams() -> None:
    x = torch.rand(1, 3, 128, 256) * 0.1
    assert abs(seam_energy(x, [(120, 136)], 16, 16) - 1) < 0.05
    x[..., 128:] += 0.3
    assert seam_energy(x, [(120, 136)], 16, 16) > 1.05


def test_noise_of_the_posterior_does_not_depend_on_tiles(
    sd3_pipe: OneStepSRPipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[np.ndarray] = []

    def encode(x: Tensor, noise: Noise | None = None) -> Tensor:
        assert noise is not None
        z = noise((1, 16, x.shape[-2] // 8, x.shape[-1] // 8))
        drawn.append(z)
        return torch.from_numpy(z)

    monkeypatch.setattr(sd3_pipe, "encode", encode)
    x = np.zeros((40, 48, 3), np.uint8)
    sd3_pipe.upscale_pixels(x, 4, tile=None, generator=torch.Generator().manual_seed(1))
    (whole,) = drawn
    drawn.clear()
    sd3_pipe.upscale_pixels(x, 4, tile=64, tile_overlap=16, generator=torch.Generator().manual_seed(1))
    for tile in drawn[1:]:  # the first pass measures the normalisation
        found = [
            np.array_equal(whole[..., y : y + 8, x : x + 8], tile)
            for y in range(0, whole.shape[-2] - 7, 2)
            for x in range(0, whole.shape[-1] - 7, 2)
        ]
        assert sum(found) == 1


def test_a_batch_in_tiles_equals_singles() -> None:
    pipe = OneStepSRPipeline(tiny_mini(), MINI.make_autoencoder(), FixedPrompt.from_conditioning(mini_prompt()))
    x = torch.rand(3, 3, 30, 40)
    together = pipe(x, tile=64, tile_overlap=16, tile_batch=2).images
    singles = torch.cat([pipe(single[None], tile=64, tile_overlap=16).images for single in x])
    torch.testing.assert_close(together, singles, rtol=0, atol=1e-5)


def without_neighbourhood(vae: AutoencoderKL) -> AutoencoderKL:
    """A real autoencoder that sees single positions, so that nothing but its normalisation differs between tiles."""
    for module in vae.requires_grad_(False).modules():
        if isinstance(module, torch.nn.Conv2d) and module.kernel_size == (3, 3):
            centre = module.weight[..., 1:2, 1:2].clone()
            module.weight.zero_()[..., 1:2, 1:2] = 3 * centre
        if isinstance(module, Attention):
            module.to_out[0].weight.zero_()
    return vae


@pytest.mark.parametrize("kind", ["gradient", "photo"])
def test_normalisation_is_that_of_the_image_in_every_tile(
    photo: Image.Image, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    network = tiny_mmdit()  # changes nothing
    for parameter in network.proj_out.parameters():
        torch.nn.init.zeros_(parameter)
    vae = without_neighbourhood(tiny_vae(16))
    pipe = OneStepSRPipeline(network, vae, FixedPrompt.from_conditioning(sd3_prompt()), model="sd3")
    ramp = np.linspace(0.1, 0.9, 120, dtype=np.float32)[None, :, None] * np.ones((80, 120, 3), np.float32)
    x = ramp if kind == "gradient" else np.asarray(photo.resize((120, 80)), dtype=np.float32) / 255

    def run(tile: int | None) -> np.ndarray:
        return pipe.upscale_pixels(x, 4, tile=tile, tile_overlap=32, color_fix="none")

    whole = run(None)
    shared = psnr(whole, run(128))
    monkeypatch.setattr(SharedGroupNorms, "__bool__", lambda self: False)
    own = psnr(whole, run(128))
    assert shared > own + (10 if kind == "gradient" else 5)


@on_both
@pytest.mark.parametrize(("height", "width"), [(30, 50), (700, 400)])
def test_the_reduced_image_has_the_area_of_a_tile(device: ArrayDevice, height: int, width: int) -> None:
    x = torch.rand(1, 1, 1, width).expand(1, 1, height, width) * torch.linspace(0, 1, height)[:, None]
    image = EnlargedImage(x, (4 * height, 4 * width), 16, device)
    small = tensor(image.reduced(128))
    assert small.shape[1] == 3
    assert 100**2 < small.shape[-2] * small.shape[-1] <= 128**2
    assert abs(small.shape[-2] / small.shape[-1] / (height / width) - 1) < 0.2
    torch.testing.assert_close(small.mean(), x.mean(), rtol=0.03, atol=0)
