"""Low- and high-quality images are aligned, for every degradation and scale."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from tsdsr.data.camera import CameraDegradation
from tsdsr.data.datasets import CropSettings, PairDataset, PairSettings
from tsdsr.data.degradation_presets import PRESETS
from tsdsr.data.first_order import FirstOrderDegradation
from tsdsr.data.operators import ResizeMode, quantise, resize
from tsdsr.data.second_order import KernelRecord, SampleRecord, SecondOrderDegradation, StageRecord
from tsdsr.data.sources import Source
from tsdsr.resize import upsample_bicubic

SIZE = 64
CENTRES = [(31.5, 31.5), (24.0, 38.0), (37.3, 26.6)]

FIRST = FirstOrderDegradation(blur_prob=0, noise_prob=0, jpeg_prob=0)
BLURRED = FirstOrderDegradation(blur_prob=1, blur_sigma=(1, 3), isotropic_prob=0, noise_prob=0, jpeg_prob=0)
CAMERA = CameraDegradation(
    photons=(1e9, 1e9), read_noise=(1e-9, 1e-9), gradient_prob=0, sharpen_prob=0, jpeg_prob=0
)  # fmt: skip
QUIET = dataclasses.replace(
    PRESETS["osediff"],
    scale=2,
    antialias=True,
    **{
        name: dataclasses.replace(
            getattr(PRESETS["osediff"], name),
            resize_range=(0.8, 1.25),
            gaussian_prob=1.0,
            gaussian_sigma=(0, 0),
            jpeg_quality=(100, 100),
        )
        for name in ("first", "second")
    },
)


def spot(centre: tuple[float, float], size: int = SIZE, sigma: float = 6.0) -> Tensor:
    """A grey Gaussian spot (3, size, size), brightest at ``centre`` (row, column) in pixels."""
    y, x = torch.meshgrid(torch.arange(float(size)), torch.arange(float(size)), indexing="ij")
    value = torch.exp(-0.5 * ((y - centre[0]) ** 2 + (x - centre[1]) ** 2) / sigma**2)
    return (0.8 * value).expand(3, size, size).contiguous()


def centroid(image: Tensor) -> np.ndarray:
    """Centre of gravity (row, column) of an image's squared grey values, in which faint tails do not count."""
    grey = image.double().mean(0).square()
    y, x = torch.meshgrid(*(torch.arange(n, dtype=torch.float64) for n in grey.shape), indexing="ij")
    return np.array([float((grey * axis).sum() / grey.sum()) for axis in (y, x)])


@pytest.mark.parametrize("mode", ["area", "bilinear", "bicubic"])
@pytest.mark.parametrize("edge", [16, 25, 32, 43])
def test_shrinking_and_enlarging_keeps_the_centre(mode: ResizeMode, edge: int) -> None:
    """To a thousandth of a pixel; torch's area filter takes whole pixels, which costs more at other factors."""
    tolerance = 1e-3 if SIZE % edge == 0 else 0.1 if mode == "area" else 3e-3
    for centre in CENTRES:
        x = spot(centre)
        small = resize(x[None], (edge, edge), mode, antialias=True)
        large = upsample_bicubic(small, (SIZE, SIZE))[0]
        np.testing.assert_allclose(centroid(large), centroid(x), rtol=0, atol=tolerance)


@pytest.mark.parametrize("edge", [16, 25])
@pytest.mark.parametrize("settings", [FIRST, BLURRED, CAMERA], ids=["first order", "blurred", "camera"])
def test_a_degradation_keeps_the_centre(settings: Any, edge: int) -> None:
    """Rounding to 8 bits moves a centre of gravity a little."""
    for seed, centre in enumerate(CENTRES * 2):
        x = spot(centre)
        low = settings(x, (edge, edge), np.random.default_rng(seed))
        large = upsample_bicubic(low[None], (SIZE, SIZE))[0]
        np.testing.assert_allclose(centroid(large), centroid(x), rtol=0, atol=0.02 if SIZE % edge == 0 else 0.1)


def test_the_second_order_keeps_the_centre() -> None:
    recipe, generator = SecondOrderDegradation(QUIET), torch.Generator().manual_seed(0)
    for centre in CENTRES * 3:
        x = spot(centre)
        record = recipe.draw((SIZE, SIZE), generator)
        large = upsample_bicubic(recipe.apply(x[None], [record]), (SIZE, SIZE))[0]
        np.testing.assert_allclose(centroid(large), centroid(x), rtol=0, atol=0.3)


@pytest.mark.parametrize("mode", ["bilinear", "bicubic"])
def test_a_second_order_record_that_does_nothing_is_shrinking_alone(mode: ResizeMode) -> None:
    stage = StageRecord(KernelRecord(), (SIZE, SIZE), mode, "gaussian", 0.0, False)
    record = SampleRecord(stage, 100.0, stage, 100.0, KernelRecord(), mode, True, (16, 16), 0)
    x = spot(CENTRES[1])
    low = SecondOrderDegradation(PRESETS["osediff"]).apply(x[None], [record])[0]
    expected = resize(x[None], (16, 16), mode)[0]
    assert (low - expected).abs().max() < 2.5 / 255  # JPEG of quality 100, twice
    np.testing.assert_allclose(centroid(low), centroid(expected), rtol=0, atol=0.02)


def spots(folder: Path) -> Source:
    """One photograph of 8 bits with an off-centre spot, as large as a crop."""
    pixels = (spot((24.0, 38.0)) * 255).round().byte().permute(1, 2, 0).numpy()
    Image.fromarray(pixels).save(folder / "spot.png")
    return Source("spots", (folder / "spot.png",))


@pytest.mark.parametrize("settings", [FIRST, CAMERA, QUIET], ids=["first order", "camera", "second order"])
def test_pairs_are_aligned_however_crops_are_turned(tmp_path: Path, settings: Any) -> None:
    crops = CropSettings(size=SIZE, shrink_prob=0.0)
    pairs = PairSettings(crops=crops, degradation=settings, scale=2.0, other_scales=(2.0, 3.0))
    dataset = PairDataset([spots(tmp_path)], 24, pairs)
    places = set()
    for x_lq, x_hq in (dataset[i] for i in range(24)):
        np.testing.assert_allclose(centroid(x_lq), centroid(x_hq), rtol=0, atol=0.5 if settings is QUIET else 0.1)
        places.add(tuple(np.round(centroid(x_hq), 1)))
    assert len(places) == 8  # four rotations, mirrored or not


def test_a_pair_without_damage_is_the_truth_shrunk_and_enlarged(tmp_path: Path) -> None:
    plain = dataclasses.replace(FIRST, resize_modes=("bicubic",))
    for scale, edge in ((4.0, 16), (2.0, 32)):
        pairs = PairSettings(
            crops=CropSettings(size=SIZE, shrink_prob=0.0), degradation=plain, scale=scale, other_scale_prob=0.0
        )
        for x_lq, x_hq in (PairDataset([spots(tmp_path)], 4, pairs)[i] for i in range(4)):
            small = quantise(resize(x_hq[None], (edge, edge), "bicubic", antialias=True))
            torch.testing.assert_close(x_lq, upsample_bicubic(small, (SIZE, SIZE))[0])
            np.testing.assert_allclose(centroid(x_lq), centroid(x_hq), rtol=0, atol=1e-2)
