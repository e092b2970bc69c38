"""Complete runs through the public functions."""

from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch

import tsdsr.training
from tests.training.tiny import NETWORK, config
from tsdsr.data.datasets import CropSettings
from tsdsr.data.sources import Source
from tsdsr.errors import ConfigError, DatasetError, TrainingError
from tsdsr.pipeline.diffusers_loading import load_diffusers_pipeline
from tsdsr.recipes import student_recipe
from tsdsr.training import (
    NetworkSettings,
    Schedule,
    TeacherConfig,
    apply_overrides,
    measure_figures,
    train_student,
    train_teacher,
)
from tsdsr.training.build import split_sources
from tsdsr.training.checkpoint import load_checkpoint_facts
from tsdsr.training.run import resolve_precision

ROOT = Path(__file__).parents[2]
TEACHER = TeacherConfig(
    phases=(Schedule(steps=1, batch_size=2, lr=(1e-3, 1e-3)),),
    networks=NetworkSettings(config=NETWORK),
    crops=CropSettings(size=32),
    validation_share=0.3,
)
CPU: dict[str, Any] = {"device": "cpu", "dtype": "fp32"}


def plain(steps: int = 1) -> Any:
    """A student's run with TSD and without LPIPS, which needs weights."""
    both = config(steps)
    return dataclasses.replace(both, phases=(dataclasses.replace(both.phases[1], perceptual_weight=0.0),))


def test_from_photographs_to_a_student_and_figures(photo_folder: Path, tmp_path: Path) -> None:
    teacher = train_teacher(TEACHER, photo_folder, tmp_path / "teacher", **CPU)
    assert teacher == tmp_path / "teacher" / "teacher"
    out = tmp_path / "student"
    student = train_student(plain(), photo_folder, str(out), teacher=teacher, **CPU)
    assert student == out / "pipeline-00000001"
    assert load_diffusers_pipeline(student).denoiser.config["channels"] == NETWORK["channels"]
    assert train_student(plain(), [photo_folder], out, teacher=teacher, **CPU) == student  # a finished run stays
    counted: list[int] = []
    paths = measure_figures(out, tmp_path / "figures", images=1, device="cpu", on_image=counted.append)
    assert [p.name for p in paths] == ["figure3.csv", "figure3.png", "figure5.csv", "figure5.png"]
    assert counted == [1]
    moved = tmp_path / "moved"
    teacher.rename(moved)
    measure_figures(out, tmp_path / "again", teacher=moved, images=1, device="cpu")
    assert (tmp_path / "again" / "figure3.csv").read_text() == paths[0].read_text()
    (moved / "config.json").write_text((moved / "config.json").read_text() + " ")
    with pytest.raises(TrainingError, match="teacher: "):
        measure_figures(out, tmp_path / "again", teacher=moved, images=1, device="cpu")


def test_mini_student_learns_from_the_weights_of_its_teacher(photo_folder: Path, tmp_path: Path) -> None:
    """Their L1 grows instead when TSD is there from the first step."""
    phase = Schedule(steps=100, batch_size=8, lr=(3e-3, 1e-3), warmup=10)
    networks = NetworkSettings(config={**NETWORK, "learned_skip": True})
    cfg = dataclasses.replace(TEACHER, phases=(phase,), networks=networks)
    teacher = train_teacher(cfg, photo_folder, tmp_path / "teacher", **CPU)
    recipe = student_recipe("mini_student")
    recipe = dataclasses.replace(
        recipe,
        phases=tuple(
            dataclasses.replace(phase, batch_size=4, warmup=min(phase.warmup, 10), perceptual_weight=0.0)
            for phase in recipe.phases
        ),
        pairs=dataclasses.replace(recipe.pairs, crops=CropSettings(size=32)),
        validation_share=0.3,
        validation_crop=64,
        log_every=1,
    )
    train_student(recipe, photo_folder, tmp_path / "student", teacher=teacher, until=30, **CPU)
    records = [json.loads(line) for line in (tmp_path / "student" / "log.jsonl").read_text().splitlines()]
    losses = [record["loss/l1"] for record in records if "loss/l1" in record]
    assert len(losses) == 30
    assert sum(losses[-5:]) < 0.5 * sum(losses[:5])


def test_figures_need_a_students_run(photo_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="nothing: no such folder"):
        measure_figures(tmp_path / "nothing", tmp_path)
    with pytest.raises(ConfigError, match="contains no checkpoint"):
        measure_figures(photo_folder, tmp_path)
    train_teacher(TEACHER, photo_folder, tmp_path / "teacher", **CPU)
    with pytest.raises(ConfigError, match="a teacher's run"):
        measure_figures(tmp_path / "teacher", tmp_path)


def test_the_example_of_the_docs_runs(photo_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the recipes made tiny; everything else as it is printed."""
    (block,) = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "how-to" / "train.md").read_text(), re.S)
    small = {"mini_teacher": TEACHER, "mini_student": plain()}
    monkeypatch.setattr("tsdsr.recipes.student_recipe", small.get)
    monkeypatch.setattr("tsdsr.recipes.teacher_recipe", small.get)
    monkeypatch.chdir(tmp_path)
    photo_folder.rename(tmp_path / "photos")
    names: dict[str, Any] = {}
    exec(compile(block, "docs/how-to/train.md", "exec"), names)
    assert names["student"].is_dir()
    assert (tmp_path / "figures" / "figure5.png").is_file()


def test_exports() -> None:
    assert sorted(tsdsr.training.__all__) == sorted(tsdsr.training._EXPORTS)
    for name in tsdsr.training.__all__:
        assert getattr(tsdsr.training, name) is not None
    with pytest.raises(AttributeError):
        tsdsr.training.nonsense  # noqa: B018


def test_settings_are_checked_before_photographs(tmp_path: Path) -> None:
    wrong = dataclasses.replace(plain(), networks=NetworkSettings(config={"channels": (8, 16)}))
    with pytest.raises(ConfigError, match="mini cannot be built"):
        train_student(wrong, "/nodir", tmp_path, **CPU)


def test_a_student_that_diverged_is_not_stored(photo_folder: Path, tmp_path: Path) -> None:
    recipe = student_recipe("mini_smoke")
    phase = dataclasses.replace(recipe.phases[0], lr=(1e12, 1e12), warmup=0)
    with pytest.raises(TrainingError, match="the run has diverged"):
        train_student(dataclasses.replace(recipe, phases=(phase,)), photo_folder, tmp_path, **CPU)
    assert list(tmp_path.glob("pipeline-*")) == []


def test_missing_photographs_are_named(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="/nodir: no such folder"):
        train_student(student_recipe("mini_smoke"), "/nodir", tmp_path, **CPU)
    with pytest.raises(ConfigError, match="no photographs"):
        train_student(student_recipe("mini_smoke"), (), tmp_path, **CPU)


def test_automatic_precision_is_decided_once(
    photo_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cpu, recipe = torch.device("cpu"), student_recipe("mini_smoke")
    monkeypatch.setattr("tsdsr.devices._cpu_has_bf16", lambda: True)
    assert resolve_precision("auto", cpu, recipe, tmp_path) == torch.bfloat16
    train_student(recipe, photo_folder, tmp_path, device="cpu", until=1)
    monkeypatch.setattr("tsdsr.devices._cpu_has_bf16", lambda: False)  # the run moves to another machine
    assert resolve_precision("auto", cpu, recipe, tmp_path) == torch.bfloat16
    assert train_student(recipe, photo_folder, tmp_path, device="cpu").name == "pipeline-00000002"
    facts = load_checkpoint_facts(tmp_path)
    assert facts is not None
    assert facts["made_from"]["precision"] == "bfloat16"
    assert "roles" not in facts
    assert resolve_precision("auto", cpu, recipe, tmp_path / "new") == torch.float32
    full = apply_overrides(student_recipe("sd3_paper"), [])
    assert resolve_precision("auto", cpu, full, tmp_path / "new") == torch.bfloat16
    assert resolve_precision("fp16", cpu, full, tmp_path / "new") == torch.float16


def source(*names: str) -> Source:
    return Source("photos", tuple(Path(name) for name in names))


def test_small_folders_hold_out_one_photograph_and_keep_one() -> None:
    names = [f"{i}.png" for i in range(5)]
    for share in (1e-4, 0.06):
        (training,), held_out = split_sources([source(*names)], share)
        assert len(held_out) == 1
        assert {*training.images, *held_out} == {Path(name) for name in names}
    assert split_sources([source(*names)], 0.0)[1] == ()
    assert split_sources([source("0.png")], 0.06)[1] == ()
    (training,), held_out = split_sources([source("0.png", "1.png")], 0.999)
    assert (len(training.images), len(held_out)) == (1, 1)
