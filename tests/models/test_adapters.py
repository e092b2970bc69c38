"""LoRA adapters: switching by name, shared tensors, the released layout."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tests.conftest import sd3_prompt, tiny_mmdit
from tsdsr.errors import WeightsError
from tsdsr.models.adapters import activity, adapter_state, attach_lora, new_lora, train_adapters, use_adapter
from tsdsr.models.denoiser import as_denoiser
from tsdsr.models.lora import merge_lora, read_released_lora, write_released_lora
from tsdsr.models.zoo import get_spec

TARGETS = get_spec("sd3").lora_targets


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def predict(model: torch.nn.Module) -> torch.Tensor:
    z = torch.randn(1, 16, 8, 8, generator=generator(9))
    with torch.no_grad():
        return as_denoiser(model)(z, torch.tensor([400.0]), sd3_prompt())


def randomise_lora(model: torch.nn.Module, adapter: str, seed: int) -> None:
    """Set B to random values, so that the adapter has an effect."""
    g = generator(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if f"lora_B.{adapter}" in name:
                parameter.copy_(0.1 * torch.randn(parameter.shape, generator=g))


def test_a_new_lora_changes_nothing_and_freezes_the_base() -> None:
    model = tiny_mmdit()
    before = predict(model)
    new_lora(model, TARGETS, 4, "student", generator())
    train_adapters(model, {"student"})
    use_adapter(model, "student")
    assert torch.equal(predict(model), before)
    assert {"lora" in n for n, p in model.named_parameters() if p.requires_grad} == {True}


def test_initial_weights_depend_only_on_the_generator() -> None:
    states = []
    for seed in (0, 0, 1):
        torch.manual_seed(len(states))
        model = tiny_mmdit()
        torch.manual_seed(100 + len(states))
        follows = torch.rand(1)
        torch.manual_seed(100 + len(states))
        new_lora(model, TARGETS, 4, "a", generator(seed))
        assert torch.equal(torch.rand(1), follows)  # the global generator is unchanged
        states.append(adapter_state(model, "a"))
    assert all(torch.equal(states[0][k], states[1][k]) for k in states[0])
    assert any(not torch.equal(states[0][k], states[2][k]) for k in states[0])


def test_adapters_are_switched_by_name_and_no_adapter_is_the_base() -> None:
    model = tiny_mmdit()
    base = predict(model)
    for seed, name in enumerate(("teacher", "fake")):
        new_lora(model, TARGETS, 4, name, generator(seed))
        randomise_lora(model, name, seed)
    answers = {}
    train_adapters(model, {"fake"})
    active = activity(model, "fake")
    for name in ("teacher", "fake", None, "teacher"):
        use_adapter(model, name)
        got = predict(model)
        assert torch.equal(answers.setdefault(name, got), got)
        assert active() == (name == "fake")
        trained = {n.split(".")[-2] for n, p in model.named_parameters() if p.requires_grad}
        assert trained == {"fake"}  # switching changes nothing of it
    assert torch.equal(answers[None], base)
    assert not torch.allclose(answers["teacher"], answers["fake"])


def test_a_layer_without_the_active_adapter_runs_as_the_base() -> None:
    """The fake's LoRA is on attention only, the teacher's on all target modules."""
    model = tiny_mmdit()
    new_lora(model, TARGETS, 4, "teacher", generator())
    randomise_lora(model, "teacher", 1)
    new_lora(model, ("to_q",), 4, "fake", generator())
    randomise_lora(model, "fake", 2)
    use_adapter(model, "fake")
    alone = tiny_mmdit()
    attach_lora(alone, adapter_state(model, "fake"), "fake")
    use_adapter(alone, "fake")
    assert torch.equal(predict(model), predict(alone))


def test_the_released_layout_round_trips(tmp_path: Path) -> None:
    model = tiny_mmdit()
    new_lora(model, TARGETS, 4, "student", generator())
    randomise_lora(model, "student", 1)
    use_adapter(model, "student")
    path = tmp_path / "transformer.safetensors"
    write_released_lora(path, adapter_state(model, "student"))
    merged = tiny_mmdit()
    merge_lora(merged, read_released_lora(path))
    torch.testing.assert_close(predict(merged), predict(model), rtol=1e-4, atol=1e-5)


def test_lora_without_matching_modules_is_refused() -> None:
    with pytest.raises(WeightsError, match="no_such"):
        new_lora(tiny_mmdit(), ("no_such",), 4, "a", generator())
    with pytest.raises(WeightsError, match="do not exist"):
        attach_lora(tiny_mmdit(), {"x.lora_A.weight": torch.zeros(2, 4), "x.lora_B.weight": torch.zeros(4, 2)}, "a")
