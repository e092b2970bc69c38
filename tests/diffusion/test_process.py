"""Noising processes against closed forms and against the diffusers schedulers, in float64."""

from __future__ import annotations

import pytest
import torch
from diffusers import DDIMScheduler, FlowMatchEulerDiscreteScheduler
from torch import Tensor

from tsdsr.diffusion.process import FlowMatching, NoiseProcess, VariancePreserving
from tsdsr.errors import ConfigError, InvalidInputError

PROCESSES = [FlowMatching(), VariancePreserving(prediction="eps"), VariancePreserving(prediction="v")]
TIMES = torch.tensor([1.0, 250.0, 500.5, 998.0], dtype=torch.float64)

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning")
each_process = pytest.mark.parametrize("process", PROCESSES, ids=lambda p: f"{type(p).__name__}-{p.prediction}")


def pair(batch: int = 4) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(7)
    z, noise = torch.randn(2, batch, 3, 5, 6, generator=generator, dtype=torch.float64)
    return z, noise


@each_process
def test_native_prediction_gives_back_x0_and_eps(process: NoiseProcess) -> None:
    z, noise = pair()
    z_t = process.add_noise(z, noise, TIMES)
    native = process.to_native(z, noise, TIMES)
    # alpha is 0.07 at the end of the VP schedule; dividing by it costs precision
    torch.testing.assert_close(process.to_x0(z_t, native, TIMES), z, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(process.to_eps(z_t, native, TIMES), noise, rtol=1e-10, atol=1e-10)


@each_process
def test_a_step_with_the_true_prediction_lands_on_the_noised_latent(process: NoiseProcess) -> None:
    z, noise = pair()
    t, t_next = TIMES, TIMES * 0.6
    z_t = process.add_noise(z, noise, t)
    stepped = process.step(z_t, process.to_native(z, noise, t), t, t_next)
    torch.testing.assert_close(stepped, process.add_noise(z, noise, t_next), rtol=1e-10, atol=1e-10)


@each_process
def test_a_batch_with_its_own_times_equals_singles(process: NoiseProcess) -> None:
    z, noise = pair()
    together = process.step(z, noise, TIMES, TIMES / 2)
    for i, t in enumerate(TIMES.tolist()):
        alone = process.step(z[i : i + 1], noise[i : i + 1], t, t / 2)
        torch.testing.assert_close(together[i : i + 1], alone, rtol=1e-12, atol=1e-12)


@each_process
def test_coefficients_run_from_clean_to_noise(process: NoiseProcess) -> None:
    t = torch.linspace(0, process.t_max, 400, dtype=torch.float64)
    alpha, sigma = process.coefficients(t)
    assert (alpha.diff() < 0).all()
    assert (sigma.diff() > 0).all()
    assert alpha[0] > 0.99
    assert sigma[-1] > 0.99


def test_flow_matching_end_points_are_exact() -> None:
    z, noise = pair()
    process = FlowMatching()
    assert torch.equal(process.add_noise(z, noise, 0.0), z)
    assert torch.equal(process.add_noise(z, noise, 1000.0), noise)
    assert torch.equal(process.to_x0(z, noise, 1000.0), z - noise)


def test_variance_is_preserved() -> None:
    alpha, sigma = VariancePreserving().coefficients(torch.linspace(0, 999, 997, dtype=torch.float64))
    torch.testing.assert_close(alpha**2 + sigma**2, torch.ones_like(alpha), rtol=1e-12, atol=1e-12)


def test_the_flow_of_a_point_mass_is_a_straight_line() -> None:
    """For data concentrated at c, the exact velocity is (z - c) / sigma, and Euler is exact for any step size."""
    process, (z, noise) = FlowMatching(), pair()
    z_t = process.add_noise(z, noise, 900.0)
    for t, t_next in ((900.0, 400.0), (400.0, 50.0)):
        z_t = process.step(z_t, (z_t - z) / (t / 1000), t, t_next)
    torch.testing.assert_close(z_t, process.add_noise(z, noise, 50.0), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("shift", [1.0, 3.0])
def test_flow_matching_agrees_with_diffusers(shift: float) -> None:
    scheduler = FlowMatchEulerDiscreteScheduler(shift=shift)
    scheduler.set_timesteps(10)
    process, (z, noise) = FlowMatching(), pair(1)
    for i in (0, 4, 8):
        t, t_next = scheduler.timesteps[i], scheduler.timesteps[i + 1]
        z_t = scheduler.scale_noise(z, t[None], noise)
        torch.testing.assert_close(process.add_noise(z, noise, t[None]), z_t, rtol=1e-6, atol=1e-6)
        scheduler._step_index = i
        expected = scheduler.step(noise * 0.3, t, z_t).prev_sample
        torch.testing.assert_close(process.step(z_t, noise * 0.3, t, t_next), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("prediction", "name"), [("eps", "epsilon"), ("v", "v_prediction")])
def test_variance_preserving_agrees_with_diffusers(prediction: str, name: str) -> None:
    scheduler = DDIMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        clip_sample=False,
        set_alpha_to_one=False,
        prediction_type=name,
    )
    scheduler.set_timesteps(20)
    process = VariancePreserving(prediction=prediction)
    z, noise = pair(1)
    for t in (950, 500, 50):
        z_t = scheduler.add_noise(z, noise, torch.tensor([t]))
        torch.testing.assert_close(process.add_noise(z, noise, float(t)), z_t, rtol=1e-5, atol=1e-5)
        expected = scheduler.step(noise * 0.4, t, z_t)
        torch.testing.assert_close(
            process.to_x0(z_t, noise * 0.4, t), expected.pred_original_sample, rtol=1e-4, atol=1e-4
        )
        torch.testing.assert_close(
            process.step(z_t, noise * 0.4, t, t - 50), expected.prev_sample, rtol=1e-4, atol=1e-4
        )


@each_process
def test_half_precision_latents_keep_their_dtype_and_accuracy(process: NoiseProcess) -> None:
    z, noise = pair()
    exact = process.to_x0(z, noise, 700.0)
    half = process.to_x0(z.half(), noise.half(), 700.0)
    assert half.dtype == torch.float16
    torch.testing.assert_close(half.double(), exact, rtol=5e-3, atol=5e-3)


@each_process
@pytest.mark.parametrize("t", [-1.0, 1000.5, float("nan")])
def test_times_out_of_range_are_refused(process: NoiseProcess, t: float) -> None:
    z, noise = pair()
    with pytest.raises(InvalidInputError, match="must lie in"):
        process.add_noise(z, noise, t)


def test_times_must_match_the_batch() -> None:
    z, noise = pair(4)
    with pytest.raises(InvalidInputError, match="4 here"):
        FlowMatching().add_noise(z, noise, torch.tensor([1.0, 2.0]))


def test_impossible_settings_are_refused() -> None:
    with pytest.raises(ConfigError):
        FlowMatching(prediction="eps")
    with pytest.raises(ConfigError):
        VariancePreserving(beta_start=0.5, beta_end=0.1)
    with pytest.raises(ConfigError):
        VariancePreserving(prediction="x0")  # type: ignore[arg-type]


def test_positions_of_the_scheduler_list_agree_with_diffusers() -> None:
    positions = torch.arange(1000).float()
    for shift in (1.0, 3.0):
        theirs = FlowMatchEulerDiscreteScheduler(num_train_timesteps=1000, shift=shift).timesteps
        torch.testing.assert_close(FlowMatching(shift=shift).time_at(positions), theirs, rtol=1e-5, atol=1e-3)
    ddim = DDIMScheduler(num_train_timesteps=1000)
    ddim.set_timesteps(1000)
    assert VariancePreserving().time_at(positions).tolist() == ddim.timesteps.tolist()
    with pytest.raises(InvalidInputError, match="999"):
        FlowMatching().time_at(torch.tensor([1000.0]))
    with pytest.raises(ConfigError, match="shift"):
        FlowMatching(shift=0)


def test_between_whole_times_the_logarithm_of_abar_is_a_straight_line() -> None:
    """alpha is the root of abar: half-way between two times it is the geometric mean of theirs."""
    for process in (VariancePreserving(prediction="eps"), VariancePreserving(prediction="v")):
        low, middle, high = process.coefficients(torch.tensor([700.0, 700.5, 701.0], dtype=torch.float64))[0]
        torch.testing.assert_close(middle, (low * high).sqrt(), rtol=1e-12, atol=0)
        assert middle < low


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_coefficients_are_not_rounded_to_the_precision_of_latents(dtype: torch.dtype) -> None:
    """In bfloat16 a time of 999 would be 1000, and nothing of the latent would be left."""
    z = torch.full((1, 1, 2, 2), 128.0, dtype=dtype)
    noisy = FlowMatching().add_noise(z, torch.zeros_like(z), torch.tensor([999.0]))
    torch.testing.assert_close(noisy.float(), torch.full((1, 1, 2, 2), 0.128), rtol=5e-3, atol=0)
