"""Photographs of a run: unusable ones, small sets, names that are not Unicode, and their recognition."""

from __future__ import annotations

import dataclasses
import json
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.logs import own_records
from tests.training.tiny import NETWORK, config
from tsdsr.data.sources import Source, open_source
from tsdsr.errors import DatasetError, TrainingError
from tsdsr.recipes import student_recipe, teacher_recipe
from tsdsr.training import NetworkSettings, Schedule, TeacherConfig, measure_figures, train_student, train_teacher
from tsdsr.training.build import split_sources, training_data
from tsdsr.training.checkpoint import load_checkpoint_facts
from tsdsr.training.config import StudentConfig

CPU: dict[str, Any] = {"device": "cpu", "dtype": "fp32"}


def photograph(path: Path, edge: int = 64) -> Path:
    pixels = np.random.default_rng(len(path.name)).integers(0, 256, (edge, edge, 3), np.uint8)
    Image.fromarray(pixels).save(path, format="BMP" if path.suffix == ".bmp" else "PNG")
    return path


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    for i in range(14):
        photograph(folder / f"{i:02d}.png")
    return folder


def recipe(steps: int = 8, **changes: Any) -> StudentConfig:
    """Two phases long enough to draw every photograph."""
    smoke = student_recipe("mini_smoke")
    phases = tuple(dataclasses.replace(phase, steps=steps, batch_size=8) for phase in smoke.phases)
    return dataclasses.replace(smoke, phases=phases, validate_every=1000, **changes)


def test_one_unusable_photograph_of_fourteen_is_named_once(
    photos: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (photos / "03.png").write_bytes(b"no picture")
    result = train_student(recipe(), photos, tmp_path / "run", **CPU)
    assert result.name == "pipeline-00000016"
    named = [record.getMessage() for record in own_records(caplog) if "03.png" in record.getMessage()]
    assert len(named) == 1
    assert named[0].startswith("left out: ")


def test_too_many_unusable_photographs_stop_a_run(photos: Path, tmp_path: Path) -> None:
    for i in range(10):
        (photos / f"{i:02d}.png").write_bytes(b"no picture")
    with pytest.raises(DatasetError, match="images cannot be used"):
        train_student(recipe(), photos, tmp_path / "run", workers=1, **CPU)


def test_a_held_out_photograph_that_cannot_be_used_is_replaced(photos: Path, caplog: pytest.LogCaptureFixture) -> None:
    settings = recipe(validation_share=1e-4)
    sources = [open_source(str(photos))]
    (first,) = training_data(sources, settings, {}).validation
    first.write_bytes(b"no picture")
    (second,) = training_data(sources, settings, {}).validation
    assert second != first
    assert str(first) in caplog.text
    photograph(second, edge=32)  # smaller than validation_crop
    (third,) = training_data(sources, settings, {}).validation
    assert third not in (first, second)
    for path in photos.iterdir():
        path.write_bytes(b"no picture")
    split = training_data(sources, settings, {})
    assert split.validation == ()
    assert len(split.sources[0].images) == 14


@pytest.mark.parametrize("count", range(2, 40))
def test_small_sets_hold_out_at_least_one(count: int) -> None:
    images = tuple(Path(f"{i}.jpg") for i in range(count))
    (training,), held_out = split_sources([Source("photos", images)], 0.06)
    assert 1 <= len(held_out) <= 0.3 * count + 1
    assert {*training.images, *held_out} == {*images}


@pytest.mark.skipif(sys.platform in ("win32", "darwin"), reason="file names are Unicode there")
def test_names_that_are_not_unicode(photos: Path, tmp_path: Path) -> None:
    for i in range(3):
        photograph(Path(os.fsdecode(os.fsencode(photos) + b"/caf\xe9%d.png" % i)))
    out = tmp_path / "run"
    train_student(recipe(1), photos, out, until=1, **CPU)
    assert train_student(recipe(1), photos, out, **CPU).name == "pipeline-00000002"
    strange = Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff\xfe"))
    photos.rename(strange)
    train_student(recipe(1), strange, tmp_path / "other", **CPU)


def test_a_photograph_changed_in_place_is_noticed(photos: Path, tmp_path: Path) -> None:
    changed = photograph(photos / "14.bmp")
    out = tmp_path / "run"
    train_student(recipe(1), photos, out, until=1, **CPU)
    before = changed.stat()
    data = bytearray(changed.read_bytes())
    data[-1] ^= 255  # same name, same size, same time
    changed.write_bytes(data)
    os.utime(changed, ns=(before.st_atime_ns, before.st_mtime_ns))
    with pytest.raises(TrainingError, match=r"photographs: 15 files, .* before, 15 files, .* now"):
        train_student(recipe(1), photos, out, **CPU)


TEACHER = TeacherConfig(
    phases=(Schedule(steps=1, batch_size=2, lr=(1e-3, 1e-3)),),
    networks=NetworkSettings(config=NETWORK),
    crops=dataclasses.replace(recipe().pairs.crops, size=32),
    validation_crop=64,
)


def test_figures_need_the_run_only(photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    teacher = train_teacher(TEACHER, "photos", "teacher", **CPU)
    both = config(1)
    settings = dataclasses.replace(
        both, phases=(dataclasses.replace(both.phases[1], perceptual_weight=0.0),), seed=3, validation_share=0.2
    )
    train_student(settings, "photos,limit=13", "student", teacher=teacher, **CPU)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    written = measure_figures("../student", "figures", images=1, device="cpu")
    assert all(path.is_file() for path in written)
    facts = load_checkpoint_facts(tmp_path / "student")
    assert facts is not None
    assert facts["files"]["photos"] == [f"folder:{photos},limit=13"]
    moved = photos.rename(tmp_path / "moved")
    with pytest.raises(DatasetError, match=r"moved, say where: --photos"):
        measure_figures("../student", "figures", device="cpu")
    measure_figures("../student", "figures", photos=f"{moved},limit=13", images=1, device="cpu")
    with pytest.raises(TrainingError, match=r"have changed .*; give the run's own files with --photos or --shards"):
        measure_figures("../student", "figures", photos=moved, device="cpu")


def test_a_teacher_is_replaced_file_by_file(photos: Path, tmp_path: Path) -> None:
    two = dataclasses.replace(TEACHER, phases=(dataclasses.replace(TEACHER.phases[0], steps=2),))
    target = train_teacher(two, photos, tmp_path / "run", until=1, **CPU)
    first = (target / "diffusion_pytorch_model.safetensors").read_bytes()
    assert train_teacher(two, photos, tmp_path / "run", **CPU) == target
    assert (target / "diffusion_pytorch_model.safetensors").read_bytes() != first
    assert json.loads((target / "config.json").read_text())["_class_name"] == "MiniUNet"
    assert not [p.name for p in (tmp_path / "run").iterdir() if p.name.startswith(".")]


def test_a_photograph_too_small_to_validate_on_is_not_said_to_be_left_out_of_training(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    images = (photograph(tmp_path / "a.png"), photograph(tmp_path / "b.png"))
    data = training_data([Source("photos", images)], recipe(validation_share=0.99, validation_crop=80), {})
    assert data.validation == ()
    assert [record.getMessage().split(": ")[0] for record in own_records(caplog)] == ["left out of validation"]


def test_both_smoke_recipes_validate_on_equally_small_photographs() -> None:
    assert teacher_recipe("mini_smoke_teacher").validation_crop == student_recipe("mini_smoke").validation_crop == 64
