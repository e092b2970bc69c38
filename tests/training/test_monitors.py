"""Monitors on cases with known results."""

from __future__ import annotations

import math

import numpy as np
import pytest
import skimage.data
import torch
from torch import Tensor

from tsdsr.diffusion.losses import Predictions, WalkPoint
from tsdsr.diffusion.process import FlowMatching, NoiseProcess, VariancePreserving
from tsdsr.errors import InvalidInputError
from tsdsr.training.monitors import ScoreGapByTime, direction_cosines, grid_excess, score_gap, true_direction

PROCESSES = [FlowMatching(), VariancePreserving(prediction="eps"), VariancePreserving(prediction="v")]
T = torch.tensor([100.0, 500.0, 900.0])


def randn(seed: int) -> Tensor:
    return torch.randn(3, 2, 8, 8, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def photographs() -> list[Tensor]:
    arrays = (skimage.data.astronaut(), skimage.data.coffee(), skimage.data.chelsea())
    return [torch.from_numpy(np.asarray(a)).permute(2, 0, 1)[:, :288, :288].double() / 255 for a in arrays]


@pytest.mark.parametrize("process", PROCESSES)
def test_the_true_direction_leads_to_the_truth(process: NoiseProcess) -> None:
    z_t, z_hq = randn(0), randn(1)
    torch.testing.assert_close(process.to_x0(z_t, true_direction(process, z_t, z_hq, T), T), z_hq)


@pytest.mark.parametrize("process", PROCESSES)
def test_a_perfect_teacher_has_cosine_one_and_an_opposed_one_minus_one(process: NoiseProcess) -> None:
    z_hat, z_hq, noise = randn(0), randn(1), randn(2)
    z_hat_t, z_hq_t = process.add_noise(z_hat, noise, T), process.add_noise(z_hq, noise, T)
    right, wrong = true_direction(process, z_hat_t, z_hq, T), -process.to_native(z_hq, noise, T)
    point = WalkPoint(T, z_hat_t, z_hq_t, Predictions(right, right, wrong))
    hat, hq = direction_cosines(process, point, z_hq)
    torch.testing.assert_close(hat, torch.ones(3))
    torch.testing.assert_close(hq, -torch.ones(3))


def test_the_gap_is_kept_by_time() -> None:
    point = WalkPoint(T, randn(0), randn(1), Predictions(randn(2), randn(2) + 0.5, randn(3)))
    torch.testing.assert_close(score_gap(point), torch.full((3,), 0.5))
    gaps = ScoreGapByTime(bins=10, momentum=0.5)
    gaps.add(T, torch.tensor([1.0, 2.0, 3.0]))
    gaps.add(torch.tensor([120.0, 1000.0]), torch.tensor([3.0, 7.0]))
    expected = {"vsd_gap/0100": 2.0, "vsd_gap/0500": 2.0, "vsd_gap/0900": 5.0}
    assert gaps.figures() == expected
    gaps.add(T, torch.tensor([math.nan, math.inf, -math.inf]))  # one bad step must not spoil the rest of the run
    assert gaps.figures() == expected


@pytest.mark.parametrize("period", [4, 8, 16])
def test_a_faint_grid_is_found_at_its_period_and_only_there(period: int) -> None:
    photos = photographs()
    clean = grid_excess(photos, (4, 8, 16))
    x = torch.arange(288)
    grid = 0.01 * (x % period == 0).double()
    spoilt = grid_excess([p + grid for p in photos], (4, 8, 16))
    assert spoilt[period] > clean[period] + 6
    wave = 0.05 * torch.cos(2 * math.pi * x / period)  # one harmonic only, which shorter periods do not have
    found = grid_excess([torch.rand(8, 3, 288, 288, generator=torch.Generator().manual_seed(0)) + wave], (4, 8, 16))
    assert found[period] > 10
    assert all(found[p] < 6 for p in (4, 8, 16) if p < period)


def test_a_grid_along_either_axis_counts() -> None:
    photos = photographs()
    clean = grid_excess(photos, (8,))[8]  # 10 dB: one of these pictures was a JPEG, whose blocks are found too
    y = torch.arange(288)
    rows = 0.01 * (y % 8 == 0).double()[:, None]
    assert grid_excess([p + rows for p in photos], (8,))[8] > clean + 6


def test_noise_has_no_grid() -> None:
    noise = torch.rand(8, 3, 256, 256, generator=torch.Generator().manual_seed(0))
    assert all(abs(v) < 3 for v in grid_excess([noise], (2, 4, 8, 16)).values())


def test_images_that_are_too_small_are_refused() -> None:
    with pytest.raises(InvalidInputError, match="256"):
        grid_excess([torch.rand(3, 64, 64)], (16,))
    assert not math.isnan(grid_excess([torch.rand(3, 64, 300)], (16,))[16])
