"""The student trainer: gradients reach the weights, losses decrease, bad steps are counted."""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path

import pytest
import torch
from torch import Tensor

from tests.training.tiny import (
    LORA,
    SD2_PROMPTS,
    TinyPrompts,
    assert_same,
    config,
    distance,
    mini_networks,
    sd2_networks,
    sd3_config,
    sd3_networks,
    trainer,
    weights,
)
from tsdsr.data.datasets import CropSettings, PairSettings
from tsdsr.diffusion.losses import gradient_loss
from tsdsr.errors import ConfigError, TrainingError
from tsdsr.training.config import Phase, StudentConfig, TSDSettings


def only_tsd(**changes: object) -> StudentConfig:
    """TSD and nothing else: no other loss, and no weight decay that would move what gets no gradient."""
    tsd = TSDSettings(guidance=1.5, points=2)
    phase = Phase(steps=4, batch_size=2, lr=(1e-3, 1e-3), fake_lr=(1e-3, 1e-3), tsd=tsd)
    return config(phases=(phase,), weight_decay=0.0, **changes)


def test_tsd_alone_reaches_every_parameter_of_the_student(photo_folder: Path, tmp_path: Path) -> None:
    """What the released training code gets wrong: there the distillation loss moves nothing."""
    run = trainer(photo_folder, tmp_path, only_tsd())
    run.run(until=2)  # the output layer starts at zero: only after a step do gradients pass beyond it
    before = weights(run)
    run.run(until=3)
    after = weights(run)
    assert [k for k in before if k.startswith("student.") and torch.equal(before[k], after[k])] == []
    assert [k for k in before if k.startswith("fake.") and torch.equal(before[k], after[k])] == []


def test_tsd_alone_reaches_every_lora_of_denoiser_and_encoder(photo_folder: Path, tmp_path: Path) -> None:
    cfg = dataclasses.replace(only_tsd(), networks=LORA)
    run = trainer(photo_folder, tmp_path, cfg, networks=sd3_networks(), prompts=TinyPrompts())
    run.run(until=1)  # B starts at zero: A moves from the second step on
    before = weights(run)
    run.run(until=3)
    after = weights(run)
    still = [k for k in before if k.startswith(("student.", "fake.")) and torch.equal(before[k], after[k])]
    # The last block's text stream ends there (SD3 is built so): its LoRA has no effect and no gradient.
    assert [k for k in still if "add_q_proj" not in k] == []
    assert any(".vae." in k and "lora_B" in k for k in before)


@pytest.mark.parametrize("model", ["sd21-base", "sd21"])
def test_noise_and_velocity_unets_are_distilled_too(photo_folder: Path, tmp_path: Path, model: str) -> None:
    """SD2: variance preserving, the DDIM step; noise prediction for the base models, velocity for SD2.1."""
    phase = dataclasses.replace(sd3_config().phases[0], steps=3)
    pairs = PairSettings(crops=CropSettings(size=64))
    cfg = config(phases=(phase,), networks=dataclasses.replace(LORA, model=model), pairs=pairs, weight_decay=0.0)
    run = trainer(photo_folder, tmp_path, cfg, networks=sd2_networks(model), prompts=SD2_PROMPTS)
    run.run(until=1)
    before = weights(run)
    run.run()
    after = weights(run)
    assert [k for k in before if k.startswith(("student.", "fake.")) and torch.equal(before[k], after[k])] == []
    record = json.loads((tmp_path / "log.jsonl").read_text().splitlines()[-1])
    assert record["loss/tsd"] > 0
    assert record["tsd/vsd_rms"] > 0


def test_teacher_and_frozen_weights_stay(photo_folder: Path, tmp_path: Path) -> None:
    networks = mini_networks()
    assert networks.scores is not None
    assert networks.scores.teacher is not None
    before = {k: v.clone() for k, v in networks.scores.teacher.state_dict().items()}
    trainer(photo_folder, tmp_path, only_tsd(), networks=networks).run()
    assert_same(before, dict(networks.scores.teacher.state_dict()))
    assert all(p.grad is None for p in networks.scores.teacher.parameters())


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_tsd_pulls_the_student_towards_the_truth(
    photo_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sign: float
) -> None:
    """A teacher whose clean estimate is the same wherever it is asked from: noise residuals point to ``z_hq``."""
    monkeypatch.setattr(
        "tsdsr.training.student.gradient_loss", lambda z_hat, gradient: gradient_loss(z_hat, sign * gradient)
    )
    tsd = TSDSettings(guidance=1.0, first=300, last=700, lambda_vsd=0.0, lambda_tsm=1.0, omega="one", space="eps")
    phase = Phase(steps=25, batch_size=4, lr=(2e-3, 2e-4), fake_lr=(0.0, 0.0), tsd=tsd)
    run = trainer(photo_folder, tmp_path, config(phases=(phase,)))
    before = run.validate()
    assert run.scores is not None

    def certain(z_t: Tensor, t: Tensor, labels: Tensor) -> Tensor:
        return z_t / (t / 1000).reshape(-1, 1, 1, 1)  # the velocity whose clean estimate is zero

    assert run.scores.teacher is not None
    run.scores.teacher.forward = certain  # type: ignore[method-assign]
    run.run()
    assert sign * (run.validate()["l1"] - before["l1"]) < 0


def test_a_few_steps_lower_the_validation_loss(photo_folder: Path, tmp_path: Path) -> None:
    phase = Phase(steps=60, batch_size=4, lr=(3e-3, 3e-4), l1_weight=1.0, tsd=TSDSettings(guidance=1.0))
    run = trainer(photo_folder, tmp_path, config(phases=(phase,)))
    before = run.validate()
    run.run()
    after = run.validate()
    assert after["l1"] < before["l1"]
    assert after["psnr"] > before["psnr"]
    assert (tmp_path / "validation-000060.png").is_file()


def test_the_log_is_one_record_a_step_and_monitors_are_in_it(photo_folder: Path, tmp_path: Path) -> None:
    trainer(photo_folder, tmp_path).run()
    records = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [r["step"] for r in records] == [1, 2, 3, 4, 5, 6]
    assert all(math.isfinite(r["loss/l1"]) and r["steps_per_second"] > 0 and r["memory_gb"] > 0 for r in records)
    assert [r["loss/perceptual"] > 0 for r in records] == [False] * 3 + [True] * 3
    assert ["loss/fake" in r for r in records] == [False] * 3 + [True] * 3
    watched = [r for r in records if "direction_cosine/z_hat" in r]
    assert [r["step"] for r in watched] == [4, 6]
    assert all(-1 <= r["direction_cosine/z_hq"] <= 1 for r in watched)
    assert all(r["grad_norm/student"] > 0 and r["grad_norm/fake"] > 0 for r in records[3:])
    assert any(k.startswith("vsd_gap/") for k in watched[-1])


def test_walks_and_the_fake_keep_to_the_range_of_positions_of_the_moment(photo_folder: Path, tmp_path: Path) -> None:
    """A range that moves from noisy to clean in the course of the phase, one position wide."""
    tsd = TSDSettings(guidance=1.0, first=(100, 900), last=(100, 900), points=1, step_size=1)
    phase = Phase(steps=2, batch_size=2, lr=(1e-3, 1e-3), fake_lr=(1e-3, 1e-3), tsd=tsd)
    run = trainer(photo_folder, tmp_path, config(phases=(phase,)))
    assert run.scores is not None
    seen: list[float] = []
    for network in (run.scores.teacher, run.scores.fake):
        assert network is not None
        network.register_forward_pre_hook(lambda _, inputs: seen.extend(inputs[1].round().tolist()))
    run.run(until=1)
    assert set(seen) <= {899, 900}  # time 900 is position 100; the fake also learns one step beyond
    seen.clear()
    run.run()
    assert seen
    assert set(seen) <= {99, 100}


def test_bfloat16_trains_too(photo_folder: Path, tmp_path: Path) -> None:
    run = trainer(photo_folder, tmp_path, dtype=torch.bfloat16)
    run.run()
    assert run.step == 6
    assert all(p.dtype == torch.float32 for p in run.roles["student"].parameters)


def test_float16_scales_each_loss_of_its_own(photo_folder: Path, tmp_path: Path) -> None:
    run = trainer(photo_folder, tmp_path, dtype=torch.float16)
    before = weights(run)
    run.run()
    after = weights(run)
    assert [k for k in before if torch.equal(before[k], after[k]) and "student" in k] == []
    assert run.roles["student"].scaler is not run.roles["fake"].scaler


def test_steps_that_are_not_finite_are_counted_and_end_the_run(photo_folder: Path, tmp_path: Path) -> None:
    cfg = config(steps=10, max_skipped=2)
    run = trainer(photo_folder, tmp_path, cfg)
    with torch.no_grad():
        run.networks.student.denoiser.conv_out.bias.fill_(float("nan"))
    before = weights(run)
    with pytest.raises(TrainingError, match=r"step 2: student: loss nan.*3 steps in a row"):
        run.run()
    records = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [r["skipped"] for r in records] == [1, 2, 3]
    from safetensors.torch import load_file

    (saved,) = tmp_path.glob("bad-step-*.safetensors")
    batch = load_file(saved)
    assert batch["item"].tolist() == [4, 5]
    assert batch["x_lq"].shape == (2, 3, 32, 32)
    after = weights(run)
    assert all(torch.equal(before[k].nan_to_num(), after[k].nan_to_num()) for k in before)


def test_one_bad_step_is_survived(photo_folder: Path, tmp_path: Path) -> None:
    run = trainer(photo_folder, tmp_path)
    honest = run._student_loss
    calls = []

    def sometimes(*arguments: object) -> object:
        result = honest(*arguments)  # type: ignore[arg-type]
        calls.append(1)
        if len(calls) == 2:
            figures = arguments[3]
            figures["loss/student"] = figures["loss/student"] * float("inf")  # type: ignore[index]
        return result

    run._student_loss = sometimes  # type: ignore[assignment,method-assign]
    run.run()
    assert run.step == 6
    assert run.skipped == 0
    records = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [r.get("skipped") for r in records] == [None, 1, None, None, None, None]


def test_accumulated_micro_batches_equal_one_batch(photo_folder: Path, tmp_path: Path) -> None:
    """Same samples, same noise, same gradient: weights of both roles agree up to rounding."""
    phase = Phase(
        steps=2, batch_size=4, lr=(1e-3, 1e-3), fake_lr=(1e-3, 1e-3), l1_weight=1.0,
        tsd=TSDSettings(guidance=1.5, points=2, shift=20), grid_weight=1.0, grid_relative=True,
    )  # fmt: skip
    results = []
    for accumulation in (1, 2, 4):
        run = trainer(photo_folder, tmp_path / str(accumulation), config(phases=(phase,), accumulation=accumulation))
        run.run()
        results.append(weights(run))
    for other in results[1:]:
        for name, value in results[0].items():
            torch.testing.assert_close(other[name], value, rtol=2e-3, atol=2e-6, msg=name)


def test_batches_that_cannot_be_split_are_refused(photo_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="accumulation=3"):
        config(accumulation=3)


def test_perceptual_distances_take_turns(photo_folder: Path, tmp_path: Path) -> None:
    phase = Phase(steps=4, batch_size=2, lr=(1e-3, 1e-3), perceptual_weight=1.0, perceptual=("lpips", "dists"))
    run = trainer(photo_folder, tmp_path, config(phases=(phase,)), networks=mini_networks(scores=False))
    asked: list[str] = []
    for name in ("lpips", "dists"):
        run.distances[name] = lambda x, y, name=name: asked.append(name) or distance(x, y)  # type: ignore[misc]
    run.run()
    assert asked == ["lpips", "dists"] * 2


def test_gradient_checkpointing_changes_no_gradient(photo_folder: Path, tmp_path: Path) -> None:
    results = []
    for checkpointing in (False, True):
        settings = dataclasses.replace(LORA, gradient_checkpointing=checkpointing)
        cfg = dataclasses.replace(sd3_config(), networks=settings)
        phase = dataclasses.replace(cfg.phases[0], adversarial_weight=0.1)
        cfg = dataclasses.replace(cfg, phases=(phase,))
        run = trainer(
            photo_folder, tmp_path / str(checkpointing), cfg, networks=sd3_networks(settings), prompts=TinyPrompts()
        )
        run.run()
        results.append(weights(run))
    for name, value in results[0].items():
        torch.testing.assert_close(results[1][name], value, rtol=1e-4, atol=1e-7, msg=name)
