"""The reconstruction trainer: it learns, it is reproducible, and killing it changes nothing."""

from __future__ import annotations

import dataclasses
import json
import math
import os
import signal
import subprocess
import sys
import textwrap
import time
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from torch import Tensor

from tsdsr.data.datasets import CropSettings, PairSettings
from tsdsr.errors import ConfigError, TrainingError
from tsdsr.recipes import RECIPES, get_recipe
from tsdsr.training.checkpoint import load_latest_checkpoint, save_checkpoint
from tsdsr.training.config import Phase, StudentConfig
from tsdsr.training.trainer import StudentTrainer

NETWORK = {"channels": [8, 16, 16], "encoder_blocks": [1, 1, 1], "decoder_blocks": [1, 1]}


def config(steps: int = 3, **changes: object) -> StudentConfig:
    base = StudentConfig(
        phases=(
            Phase(steps=steps, batch_size=2, lr=(2e-3, 1e-3), warmup=1),
            Phase(steps=steps, batch_size=1, lr=(1e-3, 1e-4), perceptual_weight=0.5, perceptual_crop=16),
        ),
        network=NETWORK,
        pairs=PairSettings(crops=CropSettings(size=32)),
        validation_share=0.3,
        validation_crop=64,
        ema_decay=0.9,
        log_every=1,
        validate_every=100,
        checkpoint_every=100,
    )
    return dataclasses.replace(base, **changes)


def distance(x_hat: Tensor, x_hq: Tensor) -> Tensor:
    """A stand-in for LPIPS that needs no weights."""
    return (x_hat.diff(dim=-1) - x_hq.diff(dim=-1)).square().mean()


def trainer(photos: Path, out: Path, cfg: StudentConfig | None = None) -> StudentTrainer:
    return StudentTrainer(cfg or config(), photos, out, perceptual=distance)


def weights(t: StudentTrainer) -> dict[str, Tensor]:
    return {**t.network.state_dict(), **{f"ema.{k}": v for k, v in t.student().state_dict().items()}}


def assert_same(a: dict[str, Tensor], b: dict[str, Tensor]) -> None:
    assert a.keys() == b.keys()
    assert all(torch.equal(a[k], b[k]) for k in a)


@pytest.mark.parametrize("stop", [1, 3, 4])
def test_resuming_equals_not_stopping(photo_folder: Path, tmp_path: Path, stop: int) -> None:
    """N + M steps equal N, a new process's worth of state, M: weights and averaged weights to the bit."""
    whole = trainer(photo_folder, tmp_path / "whole")
    whole.run()
    trainer(photo_folder, tmp_path / "parts").run(until=stop)
    torch.manual_seed(1234)  # whatever the global generator does in between
    rest = trainer(photo_folder, tmp_path / "parts")
    assert rest.step == stop
    rest.run()
    assert_same(weights(whole), weights(rest))


def test_a_killed_run_continues_as_if_nothing_had_happened(photo_folder: Path, tmp_path: Path) -> None:
    cfg = config(steps=20, checkpoint_every=3)
    script = textwrap.dedent(
        f"""
        import sys
        from pathlib import Path
        sys.path.insert(0, {str(Path(__file__).parents[2])!r})
        from tests.training.test_trainer import config, trainer
        trainer(Path(sys.argv[1]), Path(sys.argv[2]), config(steps=20, checkpoint_every=3)).run()
        """
    )
    killed = tmp_path / "killed"
    process = subprocess.Popen(
        [sys.executable, "-c", script, str(photo_folder), str(killed)], stdout=subprocess.DEVNULL
    )
    deadline = time.monotonic() + 120
    while not list(killed.glob("checkpoint-*.pt")):
        assert process.poll() is None or list(killed.glob("checkpoint-*.pt")), "the run ended before a checkpoint"
        assert time.monotonic() < deadline
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    resumed = trainer(photo_folder, killed, cfg)
    assert 0 < resumed.step <= 40
    resumed.run()
    whole = trainer(photo_folder, tmp_path / "whole", cfg)
    whole.run()
    assert_same(weights(whole), weights(resumed))


def test_it_learns(photo_folder: Path, tmp_path: Path) -> None:
    cfg = config(phases=(Phase(steps=60, batch_size=4, lr=(3e-3, 3e-4)),))
    run = trainer(photo_folder, tmp_path, cfg)
    before = run.validate()
    run.run()
    after = run.validate()
    assert after["l1"] < before["l1"]
    assert after["psnr"] > before["psnr"]
    assert (tmp_path / "validation-000060.png").is_file()


def test_every_parameter_that_can_matter_gets_a_gradient(photo_folder: Path, tmp_path: Path) -> None:
    run = trainer(photo_folder, tmp_path)
    run.run(until=4)  # the output layer starts at zero: only after a step do gradients pass beyond it
    before = {k: v.clone() for k, v in run.network.state_dict().items()}
    run.run(until=5)
    still = [k for k, v in run.network.state_dict().items() if torch.equal(v, before[k])]
    assert still == []


def test_the_log_is_one_record_a_step(photo_folder: Path, tmp_path: Path) -> None:
    trainer(photo_folder, tmp_path).run()
    records = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [r["step"] for r in records] == [1, 2, 3, 4, 5, 6]
    assert all(math.isfinite(r["l1"]) and r["steps_per_second"] > 0 for r in records)
    assert [r["perceptual"] > 0 for r in records] == [False] * 3 + [True] * 3


def test_a_run_with_other_settings_is_not_resumed(photo_folder: Path, tmp_path: Path) -> None:
    trainer(photo_folder, tmp_path).run(until=1)
    with pytest.raises(TrainingError, match="other settings"):
        trainer(photo_folder, tmp_path, config(seed=1))


def test_half_precision_without_loss_scaling_is_refused(photo_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="bf16"):
        StudentTrainer(config(), photo_folder, tmp_path, dtype=torch.float16, perceptual=distance)


def test_bfloat16_trains_too(photo_folder: Path, tmp_path: Path) -> None:
    run = StudentTrainer(config(), photo_folder, tmp_path, dtype=torch.bfloat16, perceptual=distance)
    run.run()
    assert run.step == 6
    assert all(p.dtype == torch.float32 for p in run.network.parameters())


def test_a_loss_that_is_not_finite_stops_the_run(photo_folder: Path, tmp_path: Path) -> None:
    run = trainer(photo_folder, tmp_path)
    with torch.no_grad():
        run.network.conv_out.bias.fill_(float("nan"))
    with pytest.raises(TrainingError, match="step 0"):
        run.run()


def test_checkpoints_are_rotated_and_readable(tmp_path: Path) -> None:
    assert load_latest_checkpoint(tmp_path) is None
    for step in range(5):
        save_checkpoint(tmp_path, step, {"step": step, "x": torch.ones(2)})
    assert sorted(p.name for p in tmp_path.iterdir()) == ["checkpoint-00000003.pt", "checkpoint-00000004.pt"]
    state = load_latest_checkpoint(tmp_path)
    assert state is not None
    assert state["step"] == 4
    (tmp_path / "checkpoint-00000009.pt").write_bytes(b"half")
    with pytest.raises(TrainingError, match="00000009"):
        load_latest_checkpoint(tmp_path)


def test_learning_rates_warm_up_and_fall() -> None:
    phase = Phase(steps=100, batch_size=1, lr=(1e-3, 1e-5), warmup=10)
    rates = [phase.learning_rate(s) for s in range(100)]
    assert rates[0] == pytest.approx(1e-4)
    assert rates[9] == rates[10] == pytest.approx(1e-3)
    assert rates[55] == pytest.approx((1e-3 + 1e-5) / 2, rel=1e-6)
    assert rates[-1] == pytest.approx(1e-5, rel=0.1)
    assert all(a >= b for a, b in pairwise(rates[10:]))


def test_recipes_are_valid_and_settings_check_themselves() -> None:
    for name in RECIPES:
        recipe = get_recipe(name)
        assert recipe.locate(recipe.total_steps - 1)[0] == recipe.phases[-1]
    with pytest.raises(ConfigError, match="mini_v0"):
        get_recipe("mini_v99")
    for wrong in (lambda: Phase(0, 1, (1, 1)), lambda: Phase(1, 1, (1, 1), warmup=2), lambda: config(phases=())):
        with pytest.raises(ConfigError):
            wrong()
    for name, value in (("ema_decay", 1.0), ("validation_share", 1.0)):
        with pytest.raises(ConfigError):
            config(**{name: value})
    with pytest.raises(ConfigError):
        config().locate(6)
