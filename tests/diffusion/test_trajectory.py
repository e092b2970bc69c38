"""The paired walk: its positions, the networks that drive it, and its gradients."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from tsdsr.diffusion.losses import Predictions, tsd_gradient
from tsdsr.diffusion.process import FlowMatching, NoiseProcess, VariancePreserving
from tsdsr.diffusion.trajectory import paired_walk, walk_positions
from tsdsr.errors import InvalidInputError

PROCESSES = [FlowMatching(shift=3.0), VariancePreserving(prediction="eps"), VariancePreserving(prediction="v")]


def randn(seed: int, batch: int = 3) -> Tensor:
    return torch.randn(batch, 2, 4, 4, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def teacher(z: Tensor, t: Tensor) -> Tensor:
    return torch.tanh(z) * (0.5 + t.reshape(-1, 1, 1, 1) / 1000)


def fake(z: Tensor, t: Tensor) -> Tensor:
    return torch.sin(z) - t.reshape(-1, 1, 1, 1) / 2000


def predict(z_hat_t: Tensor, z_hq_t: Tensor, t: Tensor) -> Predictions:
    return Predictions(teacher(z_hat_t, t), fake(z_hat_t, t), teacher(z_hq_t, t))


def test_positions_are_evenly_spaced_towards_less_noise() -> None:
    got = walk_positions(torch.tensor([50, 400]), 4, 50)
    assert got.T.tolist() == [[50, 100, 150, 200], [400, 450, 500, 550]]
    assert walk_positions(torch.tensor([7]), 1, 50).tolist() == [[7]]


def test_steps_shrink_when_the_walk_would_pass_the_end() -> None:
    assert walk_positions(torch.tensor([889]), 4, 50)[:, 0].tolist() == [889, 916, 944, 971]
    assert walk_positions(torch.tensor([999]), 3, 50)[:, 0].tolist() == [999, 999, 999]


def test_shifted_points_keep_their_order_and_stay_in_the_list() -> None:
    shifts = torch.tensor([[25.0, -25.0], [-25.0, 25.0], [25.0, 25.0]])
    got = walk_positions(torch.tensor([100, 900]), 4, 30, shifts=shifts)
    assert got[0].tolist() == [100, 900]
    assert bool((got.diff(dim=0) >= 0).all())
    assert float(got.max()) <= 999


@pytest.mark.parametrize(("points", "size"), [(0, 50), (1, 0), (2, -1)])
def test_impossible_walks_are_refused(points: int, size: float) -> None:
    with pytest.raises(InvalidInputError):
        walk_positions(torch.tensor([1]), points, size)


@pytest.mark.parametrize("process", PROCESSES)
def test_the_walk_written_out_for_single_samples(process: NoiseProcess) -> None:
    """Each sample alone, at its own times, stepped by the equation in terms of x0 and noise."""
    z_hat, z_hq, noise = randn(0), randn(1), randn(2)
    times = process.time_at(walk_positions(torch.tensor([60, 500, 930]), 3, 40))
    points = list(paired_walk(process, predict, z_hat, z_hq, noise, times))
    assert len(points) == 3
    for i in range(3):
        one = slice(i, i + 1)
        a = process.add_noise(z_hat[one], noise[one], times[0, one])
        b = process.add_noise(z_hq[one], noise[one], times[0, one])
        for k, p in enumerate(points):
            t = times[k, one]
            torch.testing.assert_close(p.z_hat_t[one], a)
            torch.testing.assert_close(p.z_hq_t[one], b)
            torch.testing.assert_close(p.predictions.teacher_hq[one], teacher(b, t))
            if k + 1 < len(points):
                alpha, sigma = process.coefficients(times[k + 1, one].double())
                by_fake, by_teacher = fake(a, t), teacher(b, t)
                a = alpha * process.to_x0(a, by_fake, t) + sigma * process.to_eps(a, by_fake, t)
                b = alpha * process.to_x0(b, by_teacher, t) + sigma * process.to_eps(b, by_teacher, t)


@pytest.mark.parametrize("process", PROCESSES)
@pytest.mark.parametrize("points", [1, 4])
def test_a_batch_equals_singles(process: NoiseProcess, points: int) -> None:
    z_hat, z_hq, noise = randn(3, 4), randn(4, 4), randn(5, 4)
    times = process.time_at(walk_positions(torch.tensor([50, 300, 700, 950]), points, 50))
    whole = tsd_gradient(process, paired_walk(process, predict, z_hat, z_hq, noise, times))
    for i in range(4):
        one = slice(i, i + 1)
        walk = paired_walk(process, predict, z_hat[one], z_hq[one], noise[one], times[:, one])
        single = tsd_gradient(process, walk)
        for a, b in zip(whole, single, strict=True):
            torch.testing.assert_close(a[one], b)


def test_equal_networks_give_no_vsd_and_equal_latents_no_tsm_at_the_first_point() -> None:
    process = FlowMatching()
    z, noise = randn(0), randn(1)
    times = process.time_at(walk_positions(torch.tensor([100, 500, 900]), 4, 50))

    def same(a: Tensor, b: Tensor, t: Tensor) -> Predictions:
        return Predictions(teacher(a, t), teacher(a, t), teacher(b, t))

    walk = paired_walk(process, same, z, randn(2), noise, times)
    assert not tsd_gradient(process, walk).vsd.any()
    first = next(paired_walk(process, predict, z, z.clone(), noise, times))
    assert not tsd_gradient(process, [first]).tsm.any()
    assert tsd_gradient(process, [first]).vsd.any()


def test_the_walk_records_no_gradients() -> None:
    process = FlowMatching()
    z = randn(0).requires_grad_()
    for p in paired_walk(process, predict, z, randn(1), randn(2), process.time_at(torch.tensor([[500.0] * 3] * 2))):
        assert not p.z_hat_t.requires_grad
        assert not p.predictions.teacher_hat.requires_grad
