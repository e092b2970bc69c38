"""Checkpoints and what a run refuses."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from accelerate import Accelerator
from accelerate.utils import DistributedType

from tests.training.tiny import config, trainer
from tsdsr.errors import ConfigError, TrainingError
from tsdsr.training.checkpoint import load_latest_checkpoint, save_checkpoint


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


def test_checkpoints_say_what_they_hold(photo_folder: Path, tmp_path: Path) -> None:
    trainer(photo_folder, tmp_path).run(until=4)
    state = load_latest_checkpoint(tmp_path)
    assert state is not None
    assert (state["format"], state["step"], state["skipped"]) == (2, 4, 0)
    assert '"lambda_tsm": 0.3' in state["config"]
    assert set(state["roles"]) == {"student", "fake"}
    assert "denoiser.conv_in.weight" in state["roles"]["student"]["weights"]
    assert "fake.conv_in.weight" in state["roles"]["fake"]["weights"]
    assert not any("teacher" in name for name in state["roles"]["fake"]["weights"])


def test_checkpoints_of_an_older_version_are_refused(photo_folder: Path, tmp_path: Path) -> None:
    save_checkpoint(tmp_path, 1, {"step": 1, "config": config().to_json()})
    with pytest.raises(TrainingError, match="older version"):
        trainer(photo_folder, tmp_path)


@pytest.mark.parametrize("kind", [DistributedType.FSDP, DistributedType.DEEPSPEED])
def test_sharded_launches_are_refused(
    photo_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: DistributedType
) -> None:
    monkeypatch.setattr(Accelerator, "distributed_type", kind)
    with pytest.raises(ConfigError, match="data parallelism"):
        trainer(photo_folder, tmp_path)


def test_a_batch_must_split_over_processes(photo_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Accelerator, "num_processes", 3)
    with pytest.raises(ConfigError, match="batch_size 2 is not a multiple of 3 processes"):
        trainer(photo_folder, tmp_path)


def test_a_finished_run_is_left_alone(photo_folder: Path, tmp_path: Path) -> None:
    trainer(photo_folder, tmp_path).run()
    records = (tmp_path / "log.jsonl").read_text()
    again = trainer(photo_folder, tmp_path)
    again.run()
    assert again.step == 6
    assert (tmp_path / "log.jsonl").read_text() == records
