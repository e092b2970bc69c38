"""FLUX.2 folded: rotations are computed once per size, and it is compiled as one graph."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from accelerate import cpu_offload
from torch._subclasses.fake_tensor import FakeTensorMode

import tsdsr.models.folded_flux2 as module
from tests.conftest import flux2_prompt, randomise, tiny_flux2
from tsdsr.models.conditioning import default_conditioning
from tsdsr.models.denoiser import as_denoiser
from tsdsr.models.folded_flux2 import FoldedFlux2
from tsdsr.models.zoo import get_spec
from tsdsr.optimize.fold import Footprint, fold_network
from tsdsr.training.tensor_counter import TensorCounter

SPEC = get_spec("flux2-klein")


def tiny_folded() -> FoldedFlux2:
    folded = fold_network(randomise(tiny_flux2(), 0.15), SPEC.timestep, flux2_prompt())
    assert isinstance(folded, FoldedFlux2)
    return folded


@pytest.fixture
def computed(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[tuple[int, ...]]]:
    """Sizes whose rotation was computed."""
    sizes: list[tuple[int, ...]] = []
    compute = module._rotation

    def note(*arguments: object) -> module.Rotation:
        sizes.append(arguments[3:5])  # type: ignore[arg-type]
        return compute(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(module, "_rotation", note)
    module._kept_rotation.cache_clear()
    yield sizes
    module._kept_rotation.cache_clear()


@torch.no_grad()
def test_the_rotation_is_computed_once_per_size(computed: list[tuple[int, ...]]) -> None:
    folded, z = tiny_folded(), torch.randn(2, 16, 4, 6)
    first = folded(z)
    folded(z.transpose(2, 3))
    torch.testing.assert_close(folded(z), first, rtol=0, atol=0)
    assert computed == [(4, 6), (6, 4)]
    for width in range(7, 7 + module._SIZES):
        folded(torch.zeros(1, 16, 1, width))
    folded(z)
    assert computed[-1] == (4, 6), "old sizes are dropped"


def test_what_is_kept_serves_other_modes(computed: list[tuple[int, ...]]) -> None:
    """A rotation that was computed in inference mode or on fake tensors would break what comes later."""
    folded, z = tiny_folded(), torch.randn(1, 16, 4, 6)
    with FakeTensorMode(allow_non_fake_inputs=True) as mode:
        folded(mode.from_tensor(z))
    with torch.inference_mode():
        folded(z)
    folded(z.requires_grad_()).sum().backward()
    assert z.grad is not None
    assert len(computed) == 2


@torch.no_grad()
def test_it_is_compiled_as_one_graph(computed: list[tuple[int, ...]]) -> None:
    folded, z = tiny_folded(), torch.randn(1, 16, 4, 6)
    expected = folded(z)
    folded.compile(backend="eager", fullgraph=True, dynamic=False)
    torch.testing.assert_close(folded(z), expected, rtol=0, atol=1e-6)
    assert module._kept_rotation.cache_info().currsize == 1, "none from the tracer"
    torch._dynamo.reset()


@torch.no_grad()
def test_its_weights_are_moved_in_when_they_are_needed() -> None:
    """Offloading: each module's weights are there only while it is called."""
    folded, z = tiny_folded(), torch.randn(1, 16, 4, 6)
    expected = folded(z)
    cpu_offload(folded, execution_device=torch.device("cpu"))
    assert {parameter.device.type for parameter in folded.parameters()} == {"meta"}
    torch.testing.assert_close(folded(z), expected, rtol=0, atol=0)


def test_the_last_block_computes_no_output_of_the_text() -> None:
    full = tiny_flux2()
    dim, prompt, z = full.inner_dim, flux2_prompt(), torch.randn(1, 16, 4, 6)
    with torch.no_grad(), TensorCounter() as before:
        as_denoiser(full)(z, torch.tensor([SPEC.timestep]), prompt)
    folded = fold_network(full, SPEC.timestep, prompt)
    with TensorCounter() as after:
        folded(z)
    # Queries and feed-forward of one block, queries, keys and values of another; each weight serves 5 tokens.
    assert before.flops - after.flops > 2 * 5 * (11 + 3) * dim**2


def test_what_is_left_at_full_size() -> None:
    """As docs/explanation/folding.md says."""
    with torch.device("meta"):
        full = SPEC.make_denoiser()
    folded = fold_network(full, SPEC.timestep, default_conditioning(SPEC))
    assert Footprint.of(folded).values == 3_659_521_280
