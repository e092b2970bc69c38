"""Denoiser adapters for the real network classes, and the single step."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from tests.conftest import (
    flux2_prompt,
    mini_prompt,
    sd2_prompt,
    sd3_prompt,
    tiny_flux2,
    tiny_mini,
    tiny_mmdit,
    tiny_unet,
)
from tsdsr.diffusion.process import FlowMatching, VariancePreserving
from tsdsr.errors import InvalidInputError, ModelError
from tsdsr.models.conditioning import Conditioning
from tsdsr.models.denoiser import as_denoiser, restore

CASES = {
    "mini": (tiny_mini, mini_prompt, 48),
    "mmdit": (tiny_mmdit, sd3_prompt, 16),
    "flux2": (tiny_flux2, flux2_prompt, 16),
    "unet": (tiny_unet, sd2_prompt, 4),
}
each_network = pytest.mark.parametrize("case", CASES.values(), ids=CASES)
Case = tuple[Callable[[], nn.Module], Callable[[], Conditioning], int]


@each_network
@torch.no_grad()
def test_a_batch_with_its_own_times_equals_singles(case: Case) -> None:
    network, prompt, channels = case[0](), case[1](), case[2]
    denoiser, z, t = as_denoiser(network), torch.randn(3, channels, 8, 8), torch.tensor([900.0, 500.0, 10.0])
    together = denoiser(z, t, prompt)
    assert together.shape == z.shape
    for i in range(3):
        torch.testing.assert_close(
            denoiser(z[i : i + 1], t[i : i + 1], prompt), together[i : i + 1], rtol=1e-4, atol=1e-5
        )


@each_network
@torch.no_grad()
def test_a_half_precision_network_leaves_the_latent_in_float32(case: Case) -> None:
    network, prompt, channels = case[0](), case[1](), case[2]
    z = torch.randn(1, channels, 8, 8)
    exact = as_denoiser(network)(z, torch.tensor([900.0]), prompt)
    rough = as_denoiser(network.to(torch.bfloat16))(z, torch.tensor([900.0]), prompt)
    assert rough.dtype == torch.float32
    torch.testing.assert_close(rough, exact, rtol=0.1, atol=0.1)


@each_network
def test_gradients_of_the_step_reach_every_parameter_in_use(case: Case) -> None:
    network, prompt, channels = case[0](), case[1](), case[2]
    restore(
        as_denoiser(network), FlowMatching(), torch.randn(1, channels, 8, 8), 1000.0, prompt
    ).square().mean().backward()
    reached = [name for name, p in network.named_parameters() if p.grad is not None]
    # SD3's last block drops the text stream, so its last text layers have no gradient
    unreached = {name for name, _ in network.named_parameters()} - set(reached)
    assert all("context" in name or "add_" in name for name in unreached)


def constant(value: float) -> Callable[[Tensor, Tensor, Conditioning], Tensor]:
    return lambda z, t, c: torch.full_like(z, value)


def test_restore_is_the_one_step_equation() -> None:
    z = torch.randn(2, 4, 3, 3)
    prompt = sd2_prompt()
    assert torch.equal(restore(constant(0.5), FlowMatching(), z, 1000.0, prompt), z - 0.5)
    alpha, sigma = VariancePreserving().coefficients(torch.tensor(999.0))
    eps = restore(constant(0.5), VariancePreserving(prediction="eps"), z, 999.0, prompt)
    torch.testing.assert_close(eps, (z - sigma * 0.5) / alpha)
    v = restore(constant(0.5), VariancePreserving(prediction="v"), z, 999.0, prompt)
    torch.testing.assert_close(v, alpha * z - sigma * 0.5)


def test_unknown_networks_are_refused() -> None:
    with pytest.raises(ModelError, match="Linear"):
        as_denoiser(nn.Linear(2, 2))


def test_missing_conditioning_is_named() -> None:
    with pytest.raises(InvalidInputError, match="pooled_prompt_embeds"):
        as_denoiser(tiny_mmdit())(torch.randn(1, 16, 8, 8), torch.tensor([1.0]), sd2_prompt())
