"""Two processes on the CPU (gloo) give the same result as one process with the full batch, and fail together."""

from __future__ import annotations

import os
import signal
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.process_group import in_processes
from tests.training.tiny import TSD, TinyPrompts, config, sd3_config, sd3_networks, trainer, weights
from tsdsr.errors import FileWriteError, TrainingError
from tsdsr.recipes import student_recipe
from tsdsr.training import run, train_student
from tsdsr.training.config import Phase
from tsdsr.training.samples import TrainingSample
from tsdsr.training.student import StudentTrainer

PHASE = Phase(
    steps=3, batch_size=4, lr=(1e-3, 1e-3), fake_lr=(1e-3, 1e-3), l1_weight=1.0, adversarial_weight=0.1, tsd=TSD
)
KINDS = [("mini", 1), ("mini", 2), ("sd3", 1)]
"""Model, and number of micro-batches."""


def make(kind: str, photos: Path, out: Path, accumulation: int = 1) -> StudentTrainer:
    if kind == "mini":
        return trainer(photos, out, config(phases=(PHASE,), accumulation=accumulation, validate_every=2))
    cfg = sd3_config(accumulation=accumulation)
    return trainer(photos, out, cfg, networks=sd3_networks(), prompts=TinyPrompts())


def whole_and_interrupted(photos: Path, out: Path) -> None:
    """Do runs of all kinds, and one in which the second process gets Ctrl-C in its second step."""
    for kind, accumulation in KINDS:
        trained = make(kind, photos, out / f"{kind}-{accumulation}", accumulation)
        assert trained.accelerator.num_processes == 2
        trained.run()
    stopped = make("mini", photos, out / "interrupted")
    honest = stopped.train_step

    def train_step(batches: Sequence[TrainingSample]) -> dict[str, Tensor]:
        if stopped.step == 1 and stopped.accelerator.process_index == 1:
            os.kill(os.getpid(), signal.SIGINT)
        return honest(batches)

    stopped.train_step = train_step  # type: ignore[method-assign]
    with pytest.raises(KeyboardInterrupt):
        stopped.run()
    assert stopped.step == 2


def test_two_processes_equal_one_and_stop_together(photo_folder: Path, tmp_path: Path) -> None:
    in_processes(2, tmp_path / "group", whole_and_interrupted, photo_folder, tmp_path)
    for kind, accumulation in KINDS:
        one = make(kind, photo_folder, tmp_path / "one" / f"{kind}-{accumulation}")
        one.run()
        two = tmp_path / f"{kind}-{accumulation}"
        again = make(kind, photo_folder, two, accumulation)  # reads what the first of the two processes stored
        assert again.step == one.step
        expected, got = weights(one), weights(again)
        assert expected.keys() == got.keys()
        for name, value in expected.items():
            torch.testing.assert_close(got[name], value, rtol=2e-3, atol=5e-6, msg=f"{two.name}: {name}")
        assert len((two / "log.jsonl").read_text().splitlines()) >= one.step
    assert make("mini", photo_folder, tmp_path / "interrupted").step == 2


def failing_runs(photos: Path, out: Path) -> None:
    first = os.environ["RANK"] == "0"

    def train(name: str, **options: Any) -> None:
        train_student(student_recipe("mini_smoke"), photos, out / name, device="cpu", **options)

    for options in ({"until": 1 if first else 2}, {"shard": None if first else "full"}):
        with pytest.raises(TrainingError, match=f"other settings than the first \\({next(iter(options))}: "):
            train("other", **options)

    def full(*_: Any) -> None:
        raise FileWriteError("pipeline: cannot be written (No space left on device)")

    run.store_student = full
    with pytest.raises(FileWriteError if first else TrainingError, match="No space left"):
        train("full")

    def dead(*_: Any) -> None:
        os._exit(0)

    if not first:
        run.load_parts = dead  # type: ignore[assignment]
    with pytest.raises(TrainingError, match=r"another process of the run has ended .* repeat the command to continue"):
        train("lost")


def test_processes_fail_together_before_and_after_the_steps(photo_folder: Path, tmp_path: Path) -> None:
    """Other options, a result that the first process cannot store, a process that is killed while weights are read."""
    in_processes(2, tmp_path / "group", failing_runs, photo_folder, tmp_path)
    assert not (tmp_path / "other").is_dir() or not list((tmp_path / "other").glob("checkpoint-*"))
    assert [path.name for path in (tmp_path / "full").glob("checkpoint-*")] == ["checkpoint-00000002.pt"]
