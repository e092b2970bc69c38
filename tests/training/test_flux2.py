"""Training of FLUX.2 klein: autoencoder with a batch norm, two kinds of blocks, tokens of text and image together."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests.conftest import flux2_prompt, tiny_flux2
from tests.training.golden_runs import ScaledPrompts
from tests.training.tiny import FLUX2, TSD, assert_same, config, flux2_networks, trainer, weights
from tsdsr.models.zoo import get_spec
from tsdsr.recipes import student_recipe
from tsdsr.training.adversarial import FeatureAdversary
from tsdsr.training.config import NetworkSettings, Phase, StudentConfig
from tsdsr.training.student import StudentTrainer

RECOMPUTED = dataclasses.replace(FLUX2, gradient_checkpointing=True)
PHASE = Phase(
    steps=4, batch_size=2, lr=(3e-3, 3e-3), fake_lr=(1e-3, 1e-3), perceptual_weight=0.5, latent_mse_weight=1.0,
    adversarial_weight=0.1, diverse_prompts=0.5, tsd=dataclasses.replace(TSD, guidance=4.0),
)  # fmt: skip


def flux2_config(settings: NetworkSettings) -> StudentConfig:
    return config(phases=(PHASE,), networks=settings, validate_every=4)


def run_of(photos: Path, out: Path, settings: NetworkSettings = RECOMPUTED, **arguments: Any) -> StudentTrainer:
    networks, prompts = flux2_networks(settings), ScaledPrompts(flux2_prompt())
    return trainer(photos, out, flux2_config(settings), networks=networks, prompts=prompts, **arguments)


def batch_norms(run: StudentTrainer) -> dict[str, Tensor]:
    return {name: buffer.clone() for name, buffer in run.networks.student.vae.named_buffers() if name.startswith("bn.")}


def test_a_run_resumes_to_the_bit_and_never_touches_the_statistics_of_the_latents(
    photo_folder: Path, tmp_path: Path
) -> None:
    """TSD with a walk, a discriminator on features, recomputed activations, a trained encoder, and a validation."""
    whole = run_of(photo_folder, tmp_path / "whole")
    start, statistics = weights(whole), batch_norms(whole)
    assert statistics.keys() == {"bn.running_mean", "bn.running_var", "bn.num_batches_tracked"}
    whole.run()
    assert "validation/psnr" in (tmp_path / "whole" / "log.jsonl").read_text()
    assert not whole.networks.student.vae.bn.training
    assert_same(batch_norms(whole), statistics)
    for until in (2, None):
        halves = run_of(photo_folder, tmp_path / "halves")
        assert halves.step == (0 if until else 2)
        halves.run(until=until)
    assert_same(weights(whole), weights(halves))
    assert_same(batch_norms(halves), statistics)
    end = weights(whole)
    moved = {name for name in start if not torch.equal(start[name], end[name])}
    for part in ("student.vae.encoder", "student.denoiser.single_transformer_blocks.1", "fake", "discriminator"):
        assert any(name.startswith(part) for name in moved), part
    records = [json.loads(line) for line in (tmp_path / "whole" / "log.jsonl").read_text().splitlines()]
    assert all(records[0][f"loss/{name}"] > 0 for name in ("tsd", "adversarial", "discriminator", "fake"))


def test_recomputed_activations_give_the_same_gradients(photo_folder: Path, tmp_path: Path) -> None:
    runs = [run_of(photo_folder, tmp_path / str(i), s) for i, s in enumerate((FLUX2, RECOMPUTED))]
    for run in runs:
        run.run(until=2)
    plain, recomputed = (weights(run) for run in runs)
    for name, value in plain.items():
        torch.testing.assert_close(recomputed[name], value, rtol=1e-4, atol=1e-5, msg=name)


def test_a_base_in_16_bits_trains(photo_folder: Path, tmp_path: Path) -> None:
    """Were the first layers in bfloat16, times would be rounded to 8 bits: the network casts their thousandth."""
    settings = dataclasses.replace(RECOMPUTED, base_precision="bf16")
    run = run_of(photo_folder, tmp_path, settings, dtype=torch.bfloat16)
    assert run.scores is not None
    stored = {name: p.dtype for name, p in run.scores.fake.named_parameters() if "lora" not in name}
    assert {dtype for name, dtype in stored.items() if "transformer_blocks" in name} == {torch.bfloat16}
    assert stored["time_guidance_embed.timestep_embedder.linear_1.weight"] == torch.float32
    times: list[Tensor] = []
    run.scores.fake.time_guidance_embed.time_proj.register_forward_pre_hook(lambda _, inputs: times.append(inputs[0]))
    z, prompt = torch.randn(1, 16, 4, 4), flux2_prompt()
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        run.scores(z, torch.tensor([937.3]), prompt)
    assert times[0].item() == pytest.approx(937.3, abs=1e-3)
    run.run(until=2)
    assert run.step == 2


def test_the_recipes_targets_reach_every_block() -> None:
    """Attention of both kinds of blocks for the fake; every linear layer of a block for the student."""
    recipe = student_recipe("flux2_klein")
    networks = flux2_networks(dataclasses.replace(recipe.networks, lora_rank=2, base_precision="fp32"))
    trained = networks.trained()
    network = tiny_flux2()
    for role, wanted in (("student", lambda name: True), ("fake", lambda name: ".attn." in name)):
        carrying = {
            name.partition(".lora_A")[0].removeprefix("denoiser.").removeprefix("fake.") for name in trained[role]
        }
        blocks = [name for name, m in network.named_modules() if "blocks." in name and isinstance(m, nn.Linear)]
        missing = {name for name in blocks if wanted(name)} - carrying
        assert all(name.endswith("to_add_out") for name in missing if role == "fake"), missing
        assert role == "fake" or not missing
    outputs = {t for t in recipe.networks.fake_targets if t.startswith("single_transformer_blocks.")}
    assert len(outputs) == get_spec("flux2-klein").denoiser_config["num_single_layers"]
    assert recipe.phases[0].tsd is not None
    assert recipe.phases[0].tsd.guidance == 4.0


def test_the_discriminator_sees_the_image_and_not_the_text() -> None:
    networks = flux2_networks()
    assert networks.scores is not None
    adversary = FeatureAdversary(networks.scores, networks.student.spec.process, 0)
    z, prompt = torch.randn(2, 16, 3, 4), flux2_prompt().expand(2)
    captured: list[Tensor] = []
    adversary.layer.register_forward_hook(lambda _, __, output: captured.append(output))
    with torch.no_grad():
        features = adversary.features(z, [0, 1], prompt)
        assert features.shape == (2, 12, 32)
        assert torch.equal(features, captured[0][:, 5:])
