"""The optional discriminator, on features and on latents."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
import torch

from tests.training.tiny import (
    TinyPrompts,
    config,
    mini_networks,
    sd3_config,
    sd3_networks,
    trainer,
    weights,
)
from tsdsr.training.config import Phase, TSDSettings


@pytest.mark.parametrize("kind", ["mini", "sd3"])
def test_the_adversarial_loss_trains_student_and_discriminator_but_not_the_fake(
    photo_folder: Path, tmp_path: Path, kind: str
) -> None:
    phase = Phase(steps=3, batch_size=2, lr=(1e-3, 1e-3), adversarial_weight=0.5, tsd=TSDSettings(points=1))
    if kind == "mini":
        run = trainer(photo_folder, tmp_path, config(phases=(phase,), weight_decay=0.0))
    else:
        cfg = sd3_config(weight_decay=0.0)
        cfg = dataclasses.replace(cfg, phases=(phase,))
        run = trainer(photo_folder, tmp_path, cfg, networks=sd3_networks(), prompts=TinyPrompts())
    fake = run.roles["fake"].parameters
    honest = run._fake_gradients

    def untouched(*arguments: object) -> object:
        assert all(p.grad is None for p in fake)  # the student's backward pass went through it and left nothing
        return honest(*arguments)  # type: ignore[arg-type]

    run._fake_gradients = untouched  # type: ignore[assignment,method-assign]
    run.run(until=1)
    before = weights(run)
    run.run()
    after = weights(run)
    moved = {k for k in before if not torch.equal(before[k], after[k])}
    assert any(k.startswith("student.") for k in moved)
    assert {k for k in before if k.startswith("discriminator.")} <= moved
    record = json.loads((tmp_path / "log.jsonl").read_text().splitlines()[-1])
    assert record["loss/adversarial"] > 0
    assert record["loss/discriminator"] > 0


def test_an_adversary_on_latents_needs_no_teacher_and_resumes_to_the_bit(photo_folder: Path, tmp_path: Path) -> None:
    phase = Phase(
        steps=4,
        batch_size=2,
        lr=(1e-3, 1e-3),
        l1_weight=1.0,
        adversarial_weight=0.5,
        adversary="latent",
        grid_weight=1.0,
    )
    cfg = config(phases=(phase,), ema_decay=0.9)
    assert not cfg.needs_scores
    whole = trainer(photo_folder, tmp_path / "whole", cfg, networks=mini_networks(scores=False))
    whole.run()
    for _ in range(2):
        halves = trainer(photo_folder, tmp_path / "halves", cfg, networks=mini_networks(scores=False))
        halves.run(until=2 if halves.step == 0 else None)
    assert halves.step == 4
    expected, found = weights(whole), weights(halves)
    assert all(torch.equal(expected[name], found[name]) for name in expected)
    assert {name.split(".")[0] for name in expected} == {"student", "discriminator", "ema"}
    record = json.loads((tmp_path / "whole" / "log.jsonl").read_text().splitlines()[-1])
    assert record["loss/grid"] > 0
    assert record["loss/discriminator"] > 0
