"""Checkpoints, and inputs that a run rejects."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path

import pytest
import torch
from accelerate import Accelerator
from accelerate.utils import DistributedType

from tests.training.tiny import assert_same, config, trainer, weights
from tsdsr.errors import ConfigError, TrainingError
from tsdsr.training.checkpoint import newest_checkpoint, save_checkpoint
from tsdsr.training.provenance import RunFiles


def test_checkpoints_say_what_they_hold(photo_folder: Path, tmp_path: Path) -> None:
    trainer(photo_folder, tmp_path).run(until=4)
    found = newest_checkpoint(tmp_path)
    assert found is not None
    facts = found.facts
    assert (facts["format"], facts["step"], facts["skipped"]) == (5, 4, 0)
    assert '"lambda_tsm": 0.3' in facts["config"]
    assert facts["made_from"]["precision"] == "float32"
    for kind in ("student.weights", "student.exp_avg", "student.exp_avg_sq", "student.step", "average"):
        assert f"{kind}.denoiser.conv_in.weight" in found.names
    assert "fake.weights.fake.conv_in.weight" in found.names
    assert not any("teacher" in name for name in found.names)


def test_checkpoints_of_an_older_version_are_refused(photo_folder: Path, tmp_path: Path) -> None:
    save_checkpoint(tmp_path, 1, {"step": 1, "config": config().to_json()}, {})
    with pytest.raises(TrainingError, match="another version"):
        trainer(photo_folder, tmp_path)


@pytest.mark.parametrize("kind", [DistributedType.FSDP, DistributedType.DEEPSPEED])
def test_sharded_launches_are_refused(
    photo_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: DistributedType
) -> None:
    monkeypatch.setattr(Accelerator, "distributed_type", kind)
    with pytest.raises(ConfigError, match="shard with --shard"):
        trainer(photo_folder, tmp_path)


def test_a_batch_must_split_over_processes(photo_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Accelerator, "num_processes", 3)
    with pytest.raises(ConfigError, match="batch_size 2 of phase 1 is not a multiple of 3 processes"):
        trainer(photo_folder, tmp_path)


def test_a_finished_run_is_left_alone(photo_folder: Path, tmp_path: Path) -> None:
    trainer(photo_folder, tmp_path).run()
    records = (tmp_path / "log.jsonl").read_text()
    again = trainer(photo_folder, tmp_path)
    again.run()
    assert again.step == 6
    assert (tmp_path / "log.jsonl").read_text() == records


def test_until_zero_trains_nothing(photo_folder: Path, tmp_path: Path) -> None:
    run = trainer(photo_folder, tmp_path)
    before = weights(run)
    run.run(until=0)
    assert run.step == 0
    assert_same(before, weights(run))
    with pytest.raises(TrainingError, match="seed: 0 before, 1 now"):  # what the run is was recorded all the same
        trainer(photo_folder, tmp_path, config(seed=1))
    with pytest.raises(ConfigError, match="until must be at least 0"):
        run.run(until=-1)


def test_other_settings_are_named(photo_folder: Path, tmp_path: Path) -> None:
    trainer(photo_folder, tmp_path).run(until=1)
    first, second = config().phases
    changed = config(seed=1, phases=(dataclasses.replace(first, warmup=0), second))
    with pytest.raises(TrainingError, match=r"\(phases.0.warmup: 1 before, 0 now; seed: 0 before, 1 now\)"):
        trainer(photo_folder, tmp_path, changed)


def test_other_photographs_are_refused_and_moved_ones_are_not(photo_folder: Path, tmp_path: Path) -> None:
    out, moved = tmp_path / "run", tmp_path / "moved"
    trainer(photo_folder, out).run(until=1)
    shutil.copytree(photo_folder, moved)
    assert trainer(moved, out).step == 1
    (moved / "coffee.jpg").unlink()
    with pytest.raises(TrainingError, match=r"photographs: 4 files, .* before, 3 files, .* now"):
        trainer(moved, out)
    shutil.copy(photo_folder / "cat.webp", moved / "coffee.jpg")  # same names, other content
    with pytest.raises(TrainingError, match=r"photographs: 4 files, .* before, 4 files, .* now"):
        trainer(moved, out)


def test_another_precision_is_refused(photo_folder: Path, tmp_path: Path) -> None:
    trainer(photo_folder, tmp_path).run(until=1)
    with pytest.raises(TrainingError, match="precision: float32 before, bfloat16 now"):
        trainer(photo_folder, tmp_path, dtype=torch.bfloat16)


def test_another_teacher_is_refused(photo_folder: Path, tmp_path: Path) -> None:
    for name in ("a", "b"):
        folder = tmp_path / name / "teacher"
        folder.mkdir(parents=True)
        (folder / "weights.safetensors").write_bytes(name.encode() * 10)
    out = tmp_path / "run"
    trainer(photo_folder, out, files=RunFiles(teacher=tmp_path / "a")).run(until=1)
    assert trainer(photo_folder, out, files=RunFiles(teacher=tmp_path / "a" / "teacher")).step == 1
    with pytest.raises(TrainingError, match=r"teacher: [0-9a-f]{16} before, [0-9a-f]{16} now"):
        trainer(photo_folder, out, files=RunFiles(teacher=tmp_path / "b"))
    with pytest.raises(TrainingError, match=r"teacher: [0-9a-f]{16} before, none now"):
        trainer(photo_folder, out)


def test_the_log_of_a_killed_run_is_cut_to_its_checkpoint(photo_folder: Path, tmp_path: Path) -> None:
    trainer(photo_folder, tmp_path).run(until=2)
    log = tmp_path / "log.jsonl"
    with log.open("a") as file:
        file.write('{"step": 3, "loss/l1": 9.0}\n{"step": 4, "lo')
    trainer(photo_folder, tmp_path).run(until=4)
    records = [json.loads(line) for line in log.read_text().splitlines()]
    assert [r["step"] for r in records] == [1, 2, 3, 4]
    assert records[2]["loss/l1"] < 9


def test_two_trainers_do_not_overwrite_each_other(photo_folder: Path, tmp_path: Path) -> None:
    first, second = trainer(photo_folder, tmp_path), trainer(photo_folder, tmp_path)
    first.run(until=2)
    with pytest.raises(TrainingError, match="another run is at step 2"):
        second.run()
    assert not (tmp_path / "run.lock").exists()


def test_a_run_without_held_out_photographs_says_so(
    photo_folder: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    run = trainer(photo_folder, tmp_path, config(validate_every=1))
    run.data = dataclasses.replace(run.data, validation=())
    run.run(until=1)
    assert "no photograph is held out" in capfd.readouterr().err
    assert len((tmp_path / "log.jsonl").read_text().splitlines()) == 1
