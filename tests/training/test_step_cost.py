"""The counted cost of a step against real steps."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.conftest import flux2_prompt, sd3_prompt, tiny_mmdit, tiny_vae
from tests.training.tiny import FLUX2, LORA, TinyPrompts, config, flux2_networks, mini_networks, sd3_networks
from tsdsr.models.adapters import new_lora, train_adapters
from tsdsr.models.denoiser import as_denoiser
from tsdsr.models.zoo import MINI, ModelSpec, get_spec
from tsdsr.training.config import Phase, StudentConfig, TSDSettings
from tsdsr.training.networks import Networks
from tsdsr.training.samples import TrainingData, TrainingSample
from tsdsr.training.step_cost import StepCost, norms_in_float32, student_step_cost, teacher_step_cost
from tsdsr.training.student import StudentTrainer
from tsdsr.training.tensor_counter import TensorCounter

SIZE, BATCH = 64, 2
TINY_SD3: ModelSpec = dataclasses.replace(
    get_spec("sd3"), prompt_shapes={k: v.shape[1:] for k, v in sd3_prompt().tensors().items()}
)

TINY_FLUX2: ModelSpec = dataclasses.replace(get_spec("flux2-klein"), prompt_shapes={"prompt_embeds": (5, 24)})


def networks_and_spec(name: str) -> tuple[Networks, ModelSpec, StudentConfig]:
    tsd = TSDSettings(points=1, batched=name != "one at a time")
    phase = Phase(steps=3, batch_size=BATCH, lr=(1e-3, 1e-3), fake_lr=(1e-3, 1e-3), l1_weight=1.0, tsd=tsd)
    if name == "mini":
        return mini_networks(), MINI, config(phases=(phase,), monitor_every=0)
    if name == "FLUX.2":
        settings = dataclasses.replace(FLUX2, gradient_checkpointing=True)
        return flux2_networks(settings), TINY_FLUX2, config(phases=(phase,), monitor_every=0, networks=settings)
    settings = dataclasses.replace(LORA, gradient_checkpointing=name == "checkpointing")
    return sd3_networks(settings), TINY_SD3, config(phases=(phase,), monitor_every=0, networks=settings)


@pytest.mark.parametrize("name", ["SD3", "checkpointing", "one at a time", "FLUX.2", "mini"])
def test_a_real_step_needs_what_was_counted(name: str, tmp_path: Path) -> None:
    """The second step, when moments exist. The count leaves gradients out, which come into being in a real step."""
    networks, spec, cfg = networks_and_spec(name)
    prompts = None if name == "mini" else TinyPrompts(flux2_prompt() if name == "FLUX.2" else None)
    run = StudentTrainer(cfg, networks, TrainingData(()), tmp_path, prompts)
    x = torch.rand(2, BATCH, 3, SIZE, SIZE)
    sample = TrainingSample(torch.arange(BATCH), x[0], x[1], [""] * BATCH)
    run.train_step([sample])
    trained = [p for role in run.roles.values() for p in role.parameters]
    state: list[Any] = [t for role in run.roles.values() for s in role.optimizer.state.values() for t in s.values()]
    held = [*run.networks.student.parameters(), *run.networks.vae.parameters(), *networks.student.buffers()]
    assert run.scores is not None
    assert run.ema is not None
    with TensorCounter([*held, *run.scores.parameters(), *trained, *state, *run.ema.shadow_params]) as real:
        run.train_step([sample])
    gradients = sum(p.numel() * p.element_size() for p in trained)
    cost = student_step_cost(networks, spec, cfg.phases[0], SIZE, BATCH, torch.float32)
    assert real.flops == cost.operations()
    assert 0.99 * cost.activations <= real.peak + x.nbytes <= 1.01 * (cost.activations + gradients)


def test_parts_of_a_step() -> None:
    networks, spec, cfg = networks_and_spec("SD3")
    phase = cfg.phases[0]

    def cost(batch: int = 1, dtype: torch.dtype = torch.float32, **changes: Any) -> StepCost:
        return student_step_cost(networks, spec, dataclasses.replace(phase, **changes), SIZE, batch, dtype)

    plain = cost()
    assert cost(batch=3).operations() == 3 * plain.operations()
    assert plain.operations(4) - plain.operations() == 3 * plain.flops["walk"]
    assert cost(tsd=TSDSettings(guidance=1.0)).flops["walk"] == plain.flops["walk"] / 2
    assert cost(tsd=None).flops.keys() == {"student", "backward"}
    one_at_a_time = cost(tsd=dataclasses.replace(TSDSettings(), batched=False))
    assert one_at_a_time.peaks["walk"] < plain.peaks["walk"]
    assert one_at_a_time.flops == plain.flops
    assert 0.4 < cost(dtype=torch.bfloat16).activations / plain.activations < 0.9
    again, spec, _ = networks_and_spec("checkpointing")
    recomputed = student_step_cost(again, spec, phase, SIZE, 1, torch.bfloat16)
    assert recomputed.activations < 0.6 * plain.activations
    assert cost(perceptual_weight=1.0, perceptual_crop=32).flops["backward"] > plain.flops["backward"]


def test_normalisations_count_as_float32_like_on_a_gpu() -> None:
    norm, x = torch.nn.GroupNorm(2, 4), torch.rand(1, 4, 8, 8, dtype=torch.bfloat16)
    with torch.autocast("cpu", torch.bfloat16):
        with norms_in_float32([torch.nn.Sequential(norm)]):
            assert norm(x).dtype == torch.float32
        assert norm(x).dtype == torch.bfloat16


def test_a_teachers_step() -> None:
    network = tiny_mmdit()
    new_lora(network, TINY_SD3.lora_targets, 2, "teacher", torch.Generator())
    train_adapters(network, {"teacher"})
    vae = tiny_vae(16).requires_grad_(False)
    z, t = torch.randn(2, 16, 8, 8), torch.full((2,), 500.0)
    prompt = sd3_prompt().expand(2)
    with TensorCounter() as real:
        with torch.no_grad():
            vae.encode(torch.rand(2, 3, 64, 64))
        as_denoiser(network)(z, t, prompt).square().mean().backward()
    assert teacher_step_cost(network, vae, TINY_SD3, 64, 2, torch.float32).operations() == real.flops
