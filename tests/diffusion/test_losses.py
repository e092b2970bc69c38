"""Losses against their written-out equations, and gradients at the right tensors only."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from tsdsr.diffusion.losses import (
    Predictions,
    WalkPoint,
    fake_loss,
    gradient_loss,
    guided,
    in_space,
    omega,
    reconstruction_loss,
    tsd_gradient,
    tsm_gradient,
    vsd_gradient,
)
from tsdsr.diffusion.process import FlowMatching, NoiseProcess, VariancePreserving
from tsdsr.errors import ConfigError, InvalidInputError

PROCESSES = [FlowMatching(), VariancePreserving(prediction="eps"), VariancePreserving(prediction="v")]
SHAPE = (3, 2, 4, 4)


def randn(seed: int, shape: tuple[int, ...] = SHAPE) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def point(seed: int = 0, t: Tensor | None = None) -> WalkPoint:
    predictions = Predictions(*(randn(seed + i) for i in range(3)))
    times = torch.tensor([100.0, 500.0, 900.0]) if t is None else t
    return WalkPoint(times, randn(seed + 3), randn(seed + 4), predictions)


def test_guidance_runs_from_unconditional_through_conditional() -> None:
    c, u = randn(1), randn(2)
    assert torch.equal(guided(c, u, 0), u)
    torch.testing.assert_close(guided(c, u, 1), c)
    torch.testing.assert_close(guided(c, u, 7.5), u + 7.5 * (c - u))


@pytest.mark.parametrize("process", PROCESSES)
def test_omega_is_the_variance_of_the_noise(process: NoiseProcess) -> None:
    t = torch.tensor([0.0, 300.0, 999.0])
    alpha, sigma = process.coefficients(t)
    like = randn(0)
    torch.testing.assert_close(omega(process, t, like)[:, 0, 0, 0].float(), sigma**2)
    torch.testing.assert_close(omega(process, t, like, "one").flatten().float(), torch.ones(3))
    snr = omega(process, t, like, "snr").flatten().float()
    torch.testing.assert_close(snr, alpha**2 / (alpha**2 + sigma**2))
    with pytest.raises(ConfigError, match="sigma2"):
        omega(process, t, like, "nonsense")


def test_tsd_is_the_weighted_sum_over_the_walk_written_out() -> None:
    process = FlowMatching()
    walk = [point(10), point(20, torch.tensor([50.0, 400.0, 850.0]))]
    got = tsd_gradient(process, walk, (1.0, 0.3), lambda_vsd=0.6, lambda_tsm=0.2)
    vsd, tsm = torch.zeros(SHAPE, dtype=torch.float64), torch.zeros(SHAPE, dtype=torch.float64)
    for weight, p in zip((1.0, 0.3), walk, strict=True):
        for i in range(SHAPE[0]):
            variance = (float(p.t[i]) / 1000) ** 2
            vsd[i] += weight * variance * (p.predictions.teacher_hat[i] - p.predictions.fake_hat[i])
            tsm[i] += weight * variance * (p.predictions.teacher_hat[i] - p.predictions.teacher_hq[i])
    torch.testing.assert_close(got.vsd, vsd, rtol=1e-6, atol=1e-8)
    torch.testing.assert_close(got.tsm, tsm, rtol=1e-6, atol=1e-8)
    torch.testing.assert_close(got.tsd, 0.6 * vsd + 0.2 * tsm, rtol=1e-6, atol=1e-8)


def test_equal_predictions_give_no_gradient() -> None:
    a = randn(0)
    assert not vsd_gradient(a, a.clone()).any()
    assert not tsm_gradient(a, a.clone()).any()


@pytest.mark.parametrize("process", PROCESSES)
@pytest.mark.parametrize("space", ["native", "eps"])
def test_vsd_has_the_same_direction_in_every_space(process: NoiseProcess, space: str) -> None:
    """VSD residuals of two spaces differ only by a positive factor that depends on time."""
    p = point()
    native = vsd_gradient(p.predictions.teacher_hat, p.predictions.fake_hat)
    q = in_space(process, p, space)
    other = vsd_gradient(q.teacher_hat, q.fake_hat)
    cosine = torch.nn.functional.cosine_similarity(native.flatten(1), other.flatten(1))
    torch.testing.assert_close(cosine, torch.ones(3, dtype=torch.float64), rtol=1e-6, atol=1e-6)


def test_tsm_depends_on_the_space_as_the_formula_says() -> None:
    """Flow matching: Δε = (1 - σ) Δv + (z_hat_t - z_hq_t)."""
    process, p = FlowMatching(), point()
    native, eps = in_space(process, p, "native"), in_space(process, p, "eps")
    sigma = (p.t / 1000).double().reshape(-1, 1, 1, 1)
    expected = (1 - sigma) * (native.teacher_hat - native.teacher_hq) + (p.z_hat_t - p.z_hq_t)
    torch.testing.assert_close(eps.teacher_hat - eps.teacher_hq, expected, rtol=1e-6, atol=1e-7)
    with pytest.raises(ConfigError, match="native"):
        in_space(process, p, "score")


def test_a_walk_needs_points_and_a_weight_for_each() -> None:
    with pytest.raises(InvalidInputError, match="no points"):
        tsd_gradient(FlowMatching(), [])
    with pytest.raises(InvalidInputError, match="1 step weights"):
        tsd_gradient(FlowMatching(), [point(), point()], (1.0,))


def test_the_gradient_at_z_hat_is_the_residual_over_the_count_of_elements() -> None:
    z, g = randn(0).float().requires_grad_(), randn(1).float()
    loss = gradient_loss(z, g)
    (got,) = torch.autograd.grad(loss, z)
    torch.testing.assert_close(got, g / z.numel(), rtol=1e-5, atol=1e-8)
    torch.testing.assert_close(loss, 0.5 * (g**2).mean(), rtol=1e-5, atol=1e-8)


def test_a_loss_that_would_train_nothing_is_refused() -> None:
    with pytest.raises(InvalidInputError, match="no_grad"):
        gradient_loss(randn(0), randn(1))
    with torch.no_grad(), pytest.raises(InvalidInputError, match="no_grad"):
        gradient_loss(randn(0).requires_grad_() * 2, randn(1))


@pytest.mark.parametrize("process", PROCESSES)
def test_the_fake_loss_is_zero_for_the_target_and_does_not_reach_z_hat(process: NoiseProcess) -> None:
    z, noise, t = randn(0).requires_grad_(), randn(1), torch.tensor([10.0, 500.0, 990.0])
    truth = process.to_native(z.detach().float(), noise.float(), t)
    assert fake_loss(process, truth, z, noise, t) == 0
    prediction = truth.clone().requires_grad_()
    loss = fake_loss(process, prediction + 0.1, z, noise, t)
    assert loss.item() == pytest.approx(0.01, rel=1e-4)
    loss.backward()
    assert z.grad is None
    assert prediction.grad is not None


def test_reconstruction_terms_are_weighted_and_summed() -> None:
    x_hat, x_hq = torch.rand(2, 3, 8, 8, requires_grad=True), torch.rand(2, 3, 8, 8)
    z_hat, z_hq = randn(0).float(), randn(1).float()

    def distance(a: Tensor, b: Tensor) -> Tensor:
        return (a - b).abs().max()

    terms = reconstruction_loss(x_hat, x_hq, z_hat, z_hq, distance, 0.5, 2.0, 3.0)
    expected = 0.5 * (x_hat - x_hq).abs().max() + 2 * (z_hat - z_hq).square().mean() + 3 * (x_hat - x_hq).abs().mean()
    torch.testing.assert_close(terms.total, expected)
    terms.total.backward()
    assert x_hat.grad is not None


def test_a_term_without_weight_cannot_spoil_the_sum() -> None:
    x = torch.rand(1, 3, 8, 8)
    z = torch.full((1, 2, 2, 2), float("inf"))
    terms = reconstruction_loss(x, x.clone(), z, -z, None, 1.0, 0.0, 1.0)
    assert terms.total == 0
    assert terms.latent_mse == float("inf")


def test_the_fake_loss_weighs_each_sample() -> None:
    process, z, noise, t = FlowMatching(), randn(0).float(), randn(1).float(), torch.tensor([10.0, 500.0, 990.0])
    prediction = process.to_native(z, noise, t) + torch.tensor([1.0, 2.0, 3.0]).reshape(-1, 1, 1, 1)
    assert fake_loss(process, prediction, z, noise, t).item() == pytest.approx((1 + 4 + 9) / 3, rel=1e-5)
    weight = torch.tensor([1.0, 0.0, 0.5]).reshape(-1, 1, 1, 1)
    assert fake_loss(process, prediction, z, noise, t, weight).item() == pytest.approx((1 + 4.5) / 3, rel=1e-5)
