"""The packaged `mini` on real photographs: it must be better than bicubic enlargement."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import skimage.data
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from tests.conftest import as_batch
from tsdsr.data.first_order import FirstOrderDegradation
from tsdsr.pipeline.diffusers_loading import load_diffusers_pipeline
from tsdsr.pipeline.diffusers_pipeline import OneStepSRPipeline
from tsdsr.pipeline.model_files import resolve_model
from tsdsr.pipeline.plain_areas import PlainAreas
from tsdsr.resize import upsample_bicubic

PHOTOS = {
    "astronaut": skimage.data.astronaut,
    "cat": lambda: skimage.data.chelsea()[:288, :448],
    "coffee": lambda: skimage.data.coffee()[:384, :576],
}


@pytest.fixture(scope="module")
def mini() -> OneStepSRPipeline:
    return load_diffusers_pipeline("mini", "cpu", "fp32")


def pair(name: str) -> tuple[Tensor, Tensor]:
    """Make (LQ, ground truth), the LQ image at a quarter of the size, degraded as in training."""
    x_hq = as_batch(Image.fromarray(np.ascontiguousarray(PHOTOS[name]())))
    size = (x_hq.shape[-2] // 4, x_hq.shape[-1] // 4)
    settings = FirstOrderDegradation(blur_prob=1, blur_sigma=(1.2, 1.8), noise_sigma=(2, 4), jpeg_quality=(75, 85))
    return settings(x_hq[0], size, np.random.default_rng(0))[None], x_hq


def psnr(a: Tensor, b: Tensor) -> float:
    return -10 * math.log10(float(((a - b) ** 2).mean()))


def sharpness(x: Tensor) -> float:
    """Mean absolute Laplacian, a measure of the fine detail that enlargement loses."""
    centre = x[..., 1:-1, 1:-1]
    around = x[..., 2:, 1:-1] + x[..., :-2, 1:-1] + x[..., 1:-1, 2:] + x[..., 1:-1, :-2]
    return float((4 * centre - around).abs().mean())


def gradients(x: Tensor) -> Tensor:
    """Gradient magnitude of the brightness, with Prewitt filters."""
    filters = torch.tensor([[1.0, 0.0, -1.0]] * 3) / 3
    grey = x.mean(1, keepdim=True)
    along, across = (F.conv2d(grey, f[None, None], padding=1) for f in (filters, filters.T))
    return (along**2 + across**2).sqrt()


def gradient_similarity(a: Tensor, b: Tensor) -> float:
    """Mean gradient magnitude similarity (Xue et al. 2014); 1 if all edges are equally strong in both images."""
    x, y, constant = gradients(a), gradients(b), 0.0026
    return float(((2 * x * y + constant) / (x**2 + y**2 + constant)).mean())


@pytest.mark.parametrize("name", PHOTOS)
def test_its_edges_are_closer_to_the_truth_and_sharper_than_bicubic(mini: OneStepSRPipeline, name: str) -> None:
    """PSNR penalises any texture, so it may be lower on a single photograph (the cat), but not on average."""
    lq, hq = pair(name)
    result, bicubic = mini(lq).images, upsample_bicubic(lq, hq.shape[-2:])
    assert gradient_similarity(result, hq) > gradient_similarity(bicubic, hq) + 0.02
    assert sharpness(result) > 1.5 * sharpness(bicubic)
    assert psnr(result, hq) > psnr(bicubic, hq) - 0.4


def test_it_is_closer_to_the_truth_than_bicubic(mini: OneStepSRPipeline) -> None:
    pairs = [pair(name) for name in PHOTOS]
    gains = [psnr(mini(lq).images, hq) - psnr(upsample_bicubic(lq, hq.shape[-2:]), hq) for lq, hq in pairs]
    assert sum(gains) / len(gains) > 0.5


@pytest.mark.parametrize("scale", [1.0, 2.0, 3.3])
def test_other_scales_keep_the_picture(mini: OneStepSRPipeline, scale: float) -> None:
    lq, _ = pair("astronaut")
    size = (round(128 * scale),) * 2
    result = mini(lq, scale=scale).images
    assert psnr(result, upsample_bicubic(lq, size)) > 22


def test_flat_images_stay_flat(mini: OneStepSRPipeline) -> None:
    """Within one level of 8 bits, up to the borders: the corners of the colour cube, greys and mixed colours."""
    cube = [(r, g, b) for r in (0, 255) for g in (0, 255) for b in (0, 255)]
    mixed = np.random.default_rng(0).integers(0, 256, (8, 3))
    for colour in (*cube, (1, 1, 1), (51, 51, 51), (128, 128, 128), (254, 254, 254), *mixed):
        flat = np.broadcast_to(np.array(colour, np.uint8), (24, 24, 3))
        assert np.abs(mini.upscale_pixels(flat).astype(int) - np.array(colour)).max() <= 1


def test_a_sheet_of_a_hundred_colours_is_flat_within_each_field(mini: OneStepSRPipeline) -> None:
    colours = np.random.default_rng(1).integers(0, 256, (10, 10, 3), dtype=np.uint8)
    sheet = colours.repeat(12, 0).repeat(12, 1)
    result, wanted = mini.upscale_pixels(sheet).astype(int), sheet.repeat(4, 0).repeat(4, 1)
    fields = np.abs(result - wanted).reshape(10, 48, 10, 48, 3)[:, 6:-6, :, 6:-6]
    assert fields.max() <= 1
    assert np.abs(result - wanted)[:6, 6:42].max() <= 1  # the first field's own border of the picture


def test_white_stays_white_beside_a_bar(mini: OneStepSRPipeline) -> None:
    page = np.full((48, 64, 3), 255, np.uint8)
    page[:, 28:34] = 0
    result = mini.upscale_pixels(page)
    assert result[:, : 112 - 6].min() == 255
    assert result[:, 136 + 6 :].min() == 255
    assert (result[:, 112:136].mean(1).max()) < 60


def test_grey_photographs_come_out_grey(mini: OneStepSRPipeline) -> None:
    grey = np.asarray(Image.fromarray(skimage.data.camera()).resize((64, 64)))
    result = mini.upscale_pixels(grey[..., None].repeat(3, 2))
    assert (result == result[..., :1]).all()
    assert np.abs(result[..., :1].astype(int) - mini.upscale_pixels(grey[..., None])).max() <= 1


@pytest.mark.parametrize("name", PHOTOS)
def test_following_the_input_in_plain_areas_does_not_change_photographs(
    mini: OneStepSRPipeline, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    lq, _ = pair(name)
    result = mini(lq).images
    monkeypatch.setattr(PlainAreas, "follow", lambda areas, restored, *_: restored)
    assert psnr(result, mini(lq).images) > 50


def test_tiles_are_invisible(mini: OneStepSRPipeline) -> None:
    lq, _ = pair("coffee")
    whole, tiled = (mini(lq, tile=t).images for t in (None, 256))
    assert psnr(whole, tiled) > 45


def test_half_precision_weights_and_bfloat16_change_little(mini: OneStepSRPipeline) -> None:
    lq, _ = pair("cat")
    rough = load_diffusers_pipeline("mini", "cpu", "bf16")
    assert psnr(mini(lq).images, rough(lq).images) > 45


def test_the_weights_are_small_and_documented() -> None:
    folder = resolve_model("mini")
    weights = list(folder.rglob("*.safetensors"))
    assert sum(p.stat().st_size for p in weights) < 20e6
    assert not list(folder.rglob("*.bin")) + list(folder.rglob("*.pt"))
    assert "apache-2.0" in (folder / "README.md").read_text().lower()


def test_the_example_is_the_one_the_readme_shows() -> None:
    with Image.open(Path(__file__).parents[1] / "examples" / "astronaut_lq.png") as image:
        assert image.size == (128, 128)
