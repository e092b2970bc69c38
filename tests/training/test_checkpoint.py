"""Checkpoint files and folders: rotation, damage, and the format before this one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.training.tiny import assert_same, trainer, weights
from tsdsr.errors import TrainingError
from tsdsr.training.checkpoint import Checkpoint, newest_checkpoint, read_tensors, save_checkpoint
from tsdsr.training.student import StudentTrainer


def test_checkpoints_are_rotated_and_readable(tmp_path: Path) -> None:
    assert newest_checkpoint(tmp_path) is None
    for step in range(5):
        save_checkpoint(tmp_path, step, {"step": step}, {"x": torch.full((2,), float(step))})
    assert sorted(p.name for p in tmp_path.iterdir()) == ["checkpoint-00000003.pt", "checkpoint-00000004.pt"]
    found = newest_checkpoint(tmp_path)
    assert found == Checkpoint(tmp_path / "checkpoint-00000004.pt", {"step": 4}, frozenset({"x"}))
    x = torch.zeros(2)
    read_tensors(found, {"x": x})
    assert x.tolist() == [4, 4]
    with pytest.raises(TrainingError, match=r"00000004.*does not contain y"):
        read_tensors(found, {"x": x, "y": x})
    (tmp_path / "checkpoint-00000009.pt").write_bytes(b"half")
    with pytest.raises(TrainingError, match="00000009"):
        newest_checkpoint(tmp_path)


def in_format_4(run: StudentTrainer) -> dict[str, Any]:
    """A run's state as versions before format 5 stored it."""
    (path,) = run.output.glob("checkpoint-*.pt")
    facts = torch.load(path, weights_only=True)
    assert run.ema is not None
    roles = {
        name: {
            "weights": {k: p.detach() for k, p in role.named.items()},
            "buffers": {},
            "optimizer": role.optimizer.state_dict(),
            "scaler": role.scaler.state_dict(),
        }
        for name, role in run.roles.items()
    }
    kept = {name: facts[name] for name in ("config", "made_from", "files", "step", "skipped")}
    return {"format": 4, **kept, "roles": roles, "ema": run.ema.state_dict()}


def test_runs_in_format_4_continue(photo_folder: Path, tmp_path: Path) -> None:
    whole = trainer(photo_folder, tmp_path / "whole")
    whole.run()
    begun = trainer(photo_folder, tmp_path / "parts")
    begun.run(until=4)
    torch.save(in_format_4(begun), tmp_path / "parts" / "checkpoint-00000004.pt")
    rest = trainer(photo_folder, tmp_path / "parts")
    assert rest.step == 4
    rest.run()
    assert_same(weights(whole), weights(rest))


def test_a_folder_without_all_parts_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "checkpoint-00000007"
    folder.mkdir()
    assert newest_checkpoint(tmp_path) is None  # it was being deleted
    (folder / "run.json").write_text(json.dumps({"step": 7, "parts": 2}))
    with pytest.raises(TrainingError, match=r"00000007: cannot be read \(0 of its 2 parts are there\); delete it"):
        newest_checkpoint(tmp_path)
