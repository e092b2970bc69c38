"""One step of the student trainer: its cost, and that all roles take it or none does."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.training.tiny import assert_same, config, trainer, weights
from tsdsr.training.config import Phase, TSDSettings
from tsdsr.training.engine import NonFiniteError
from tsdsr.training.samples import TrainingSample
from tsdsr.training.student import StudentTrainer

FULL = Phase(
    steps=9, batch_size=2, lr=(1e-3, 1e-3), fake_lr=(1e-3, 1e-3), l1_weight=1.0, latent_mse_weight=1.0,
    perceptual_weight=1.0, perceptual_crop=16, grid_weight=1.0, grid_relative=True, adversarial_weight=0.1,
    diverse_prompts=0.5, tsd=TSDSettings(points=4, shift=25),
)  # fmt: skip
"""Every term and every role."""


def batch() -> TrainingSample:
    generator = torch.Generator().manual_seed(0)
    x_lq, x_hq = (torch.rand(2, 3, 32, 32, generator=generator) for _ in range(2))
    return TrainingSample(torch.arange(2), x_lq, x_hq, ["", ""])


@pytest.fixture
def run(photo_folder: Path, tmp_path: Path) -> StudentTrainer:
    return trainer(photo_folder, tmp_path / "run", config(phases=(FULL,)))


def test_a_step_waits_for_the_device_once(run: StudentTrainer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Reads of tensor values in this package, counted as if every tensor lay on an accelerator.

    Sample numbers (int64) are on the CPU in every run and do not count.
    """
    monkeypatch.setattr("tsdsr.diffusion.process.on_host", lambda x: False)
    run.train_step([batch()])
    reads: list[str] = []
    for name in ("item", "tolist", "__bool__", "nonzero", "cpu", "__float__", "__int__"):
        honest = getattr(Tensor, name)

        def counted(x: Tensor, *arguments: Any, name: str = name, honest: Any = honest, **options: Any) -> Any:
            caller = sys._getframe(1).f_code.co_filename
            if "/tsdsr/" in caller and x.dtype != torch.int64:
                reads.append(f"{caller}: {name}")
            return honest(x, *arguments, **options)

        monkeypatch.setattr(Tensor, name, counted)
    run.train_step([batch()])
    assert len(reads) == 1, reads
    assert reads[0].endswith("engine.py: tolist")


def test_true_latents_are_encoded_once(run: StudentTrainer, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Tensor] = []
    honest = run.vae.encode

    def encode(x: Tensor, *arguments: Any, **options: Any) -> Any:
        asked.append(x)
        return honest(x, *arguments, **options)

    monkeypatch.setattr(run.vae, "encode", encode)
    one = batch()
    run.train_step([one])
    assert len(asked) == 1
    torch.testing.assert_close(asked[0], one.x_hq * 2 - 1)


def state(run: StudentTrainer) -> dict[str, Tensor]:
    """Weights, averages and optimiser states."""
    found = weights(run)
    for name, role in run.roles.items():
        for number, moments in role.optimizer.state_dict()["state"].items():
            found |= {f"{name}.{number}.{key}": value.clone() for key, value in moments.items()}
    return found


@pytest.mark.parametrize("role", ["student", "fake", "discriminator"])
def test_all_roles_step_or_none(run: StudentTrainer, role: str) -> None:
    run.train_step([batch()])
    before = state(run)
    backward = run.roles[role].backward

    def poisoned(loss: Tensor, accumulation: int) -> None:
        backward(loss, accumulation)
        gradient = next(p.grad for p in run.roles[role].parameters if p.grad is not None)
        gradient.view(-1)[0] = float("nan")

    run.roles[role].backward = poisoned  # type: ignore[method-assign]
    with pytest.raises(NonFiniteError, match=f"{role}: loss .*, gradient norm nan"):
        run.train_step([batch()])
    assert_same(before, state(run))
    assert all(p.grad is None for r in run.roles.values() for p in r.parameters)
    run.roles[role].backward = backward  # type: ignore[method-assign]
    run.train_step([batch()])
    after = state(run)
    for name in ("student", "fake", "discriminator", "ema"):
        assert any(not torch.equal(before[k], after[k]) for k in before if k.startswith(name)), name
