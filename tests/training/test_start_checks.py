"""Arguments of a run are checked before photographs are listed and weights are loaded."""

from __future__ import annotations

import dataclasses
import importlib.util
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import pytest

from tests.training.tiny import NETWORK, config, mini_networks
from tsdsr.errors import ConfigError, InvalidInputError, MissingDependencyError, ModelError, TrainingError
from tsdsr.recipes import get_recipe, student_recipe, teacher_recipe
from tsdsr.training import NetworkSettings, Schedule, TeacherConfig, train_student, train_teacher
from tsdsr.training.adversary_choice import make_adversary
from tsdsr.training.config import PerceptualName
from tsdsr.training.perceptual_choice import perceptual_distance
from tsdsr.training.start_checks import _PACKAGES

STUDENT, TEACHER = student_recipe("mini_smoke"), teacher_recipe("mini_smoke_teacher")
SD3 = student_recipe("sd3_paper")


@pytest.fixture(autouse=True)
def nothing_is_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> None:
        raise AssertionError("photographs were listed before the check")

    monkeypatch.setattr("tsdsr.training.run.open_source", refuse)


def network(folder: Path, kind: str = "MiniUNet") -> Path:
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps({"_class_name": kind}))
    return folder


def pipeline(folder: Path) -> Path:
    network(folder / "denoiser")
    (folder / "model_index.json").write_text("{}")
    return folder


def test_settings_of_the_other_kind_are_refused(tmp_path: Path) -> None:
    wrong: list[tuple[Callable[..., Path], Any, str]] = [
        (train_student, "mini_smoke", "takes settings, not a name: give student_recipe\\('mini_smoke'\\)"),
        (train_student, TEACHER, "settings of a teacher: give them to train_teacher"),
        (train_student, None, "config must be a StudentConfig, got NoneType"),
        (train_student, {"seed": 1}, "config must be a StudentConfig, got dict"),
        (train_teacher, "mini_smoke_teacher", "give teacher_recipe\\('mini_smoke_teacher'\\)"),
        (train_teacher, STUDENT, "settings of a student: give them to train_student"),
    ]
    for train, settings, message in wrong:
        with pytest.raises(ConfigError, match=message):
            train(settings, "photos", tmp_path / "run")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"tracker": "foo"}, "tracker must be one of tensorboard, wandb, trackio, none, got 'foo'"),
        ({"tracker": None}, "tracker must be one of"),
        ({"workers": -1}, "workers must be a whole number of at least 0, got -1"),
        ({"workers": 1.5}, "workers must be"),
        ({"until": True}, "until must be"),
        ({"until": -1}, "until must be a whole number of at least 0, got -1"),
        ({"output": ""}, "is empty"),
        ({"output": None}, "takes a path, got NoneType"),
        ({"photos": ""}, "--photos: is empty"),
        ({"photos": None}, "no photographs were given: name them with --photos or --shards"),
        ({"photos": [b"x"]}, "--photos: takes a path, got bytes"),
        ({"photos": []}, "no photographs were given"),
        ({"init": ""}, "--init: is empty"),
        ({"base": "/nodir"}, "--base has no effect: mini has no base model"),
        ({"cache": "/nodir"}, "--cache has no effect"),
        ({"prompts": "/nodir"}, "--prompts has no effect"),
        ({"teacher": "/nodir"}, "--teacher /nodir: no such folder"),
        ({"init": "/nodir"}, "--init /nodir: no such folder"),
    ],
)
def test_wrong_arguments_are_refused_by_name(tmp_path: Path, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidInputError, match=message):
        train_student(STUDENT, **{"photos": "photos", "output": tmp_path / "run", **arguments})
    assert not (tmp_path / "run").exists()


def test_a_file_is_no_run_folder(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(InvalidInputError, match="file: is a file"):
        train_student(STUDENT, "photos", tmp_path / "file")
    assert (tmp_path / "file").read_text() == "mine"


def test_weights_of_another_kind_are_refused(tmp_path: Path) -> None:
    lora = tmp_path / "teacher.safetensors"
    lora.write_bytes(b"x")
    (tmp_path / "empty").mkdir()
    broken = network(tmp_path / "broken")
    (broken / "config.json").write_bytes(b"\xff\xfe")
    cases: list[tuple[Any, dict[str, Any], str]] = [
        (STUDENT, {"teacher": lora}, "is a file; a teacher of mini is the folder 'teacher'"),
        (STUDENT, {"teacher": pipeline(tmp_path / "pipeline")}, "is a pipeline; give the folder 'teacher'"),
        (STUDENT, {"teacher": tmp_path / "empty"}, "no model there"),
        (STUDENT, {"teacher": network(tmp_path / "vae", "AutoencoderKL")}, "contains a AutoencoderKL, not a MiniUNet"),
        (STUDENT, {"teacher": broken}, "cannot be read"),
        (STUDENT, {"init": lora}, "is a file; mini starts from a pipeline folder"),
        (STUDENT, {"init": tmp_path / "empty"}, "no model there"),
        (SD3, {"base": "/nodir"}, "--base /nodir: no such folder"),
        (SD3, {"base": tmp_path / "empty"}, "no such folder .*transformer"),
        (SD3, {"base": tmp_path / "base"}, "contains a UNet2DConditionModel, not a SD3Transformer2DModel"),
        (SD3, {"cache": tmp_path / "nowhere"}, "--cache .*no such folder"),
        (SD3, {"teacher": tmp_path / "empty"}, "is a folder; a teacher of sd3 is a LoRA file"),
        (SD3, {"teacher": tmp_path / "none.safetensors"}, "no such file"),
        (SD3, {"teacher": broken / "config.json"}, "is not a safetensors file"),
        (SD3, {"init": tmp_path / "empty"}, "has no transformer.safetensors"),
    ]
    network(tmp_path / "base" / "transformer", "UNet2DConditionModel")
    for settings, arguments, message in cases:
        settings = dataclasses.replace(  # without LPIPS, which may not be installed
            settings, phases=tuple(dataclasses.replace(p, perceptual_weight=0.0) for p in settings.phases)
        )
        with pytest.raises(ConfigError, match=message):
            train_student(settings, "photos", tmp_path / "run", **arguments)


def test_a_missing_package_of_a_loss_is_named_before_anything_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(
        MissingDependencyError, match=r"'lpips' of this recipe needs lpips; run pip install '\.\[train\]'"
    ):
        train_student(student_recipe("mini_v0"), "photos", tmp_path)
    with pytest.raises(AssertionError, match="photographs were listed"):  # the first recipe to try needs no package
        train_student(STUDENT, "photos", tmp_path)


def test_every_loss_has_a_package() -> None:
    assert set(get_args(PerceptualName)) == set(_PACKAGES)


def test_the_package_of_a_vgg_discriminator_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    phase = dataclasses.replace(STUDENT.phases[0], adversarial_weight=0.1, adversary="vgg")
    with pytest.raises(MissingDependencyError, match=r"adversary='vgg' of this recipe needs torchvision; run pip"):
        train_student(dataclasses.replace(STUDENT, phases=(phase,)), "photos", tmp_path)


def test_weights_of_a_loss_that_cannot_be_downloaded_are_explained(monkeypatch: pytest.MonkeyPatch) -> None:
    def offline(*_: object) -> None:
        raise OSError("Name or service\nnot known")

    monkeypatch.setattr("tsdsr.training.perceptual_choice.lpips_distance", offline)
    with pytest.raises(ModelError, match=r"the loss 'lpips' cannot be loaded \(Name or service not known\)"):
        perceptual_distance("lpips")


def test_weights_of_a_discriminator_that_cannot_be_downloaded_are_explained(monkeypatch: pytest.MonkeyPatch) -> None:
    def offline() -> None:
        raise OSError("Name or service not known")

    monkeypatch.setattr("tsdsr.training.adversary_choice.vgg_layers", offline)
    phase = dataclasses.replace(STUDENT.phases[0], adversarial_weight=0.1, adversary="vgg")
    config = dataclasses.replace(STUDENT, phases=(phase,))
    with pytest.raises(ModelError, match=r"the discriminator on VGG features cannot be loaded \(Name or service"):
        make_adversary(config, mini_networks(scores=False))


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("raise SystemExit(3)", "cannot be executed .SystemExit: 3"),
        ("def f(:", "cannot be executed .SyntaxError"),
        ("1 / 0", "cannot be executed .ZeroDivisionError"),
        ("import nothing_like_this", "cannot be executed .ModuleNotFoundError"),
        ("def f():\n    raise SystemExit", r"f\(\) fails .SystemExit"),
        ("def f(x):\n    pass", r"f\(\) fails .TypeError"),
        ("def f():\n    raise ValueError('two\\nlines')", "ValueError: two lines"),
        ("f = 3", "has no function 'f'"),
        ("def f():\n    pass", "returns NoneType"),
    ],
)
def test_what_a_recipe_of_ones_own_raises_is_one_sentence(tmp_path: Path, body: str, message: str) -> None:
    file = tmp_path / "mine.py"
    file.write_text(body)
    with pytest.raises(ConfigError, match=message) as found:
        get_recipe(f"{file}:f")
    assert "\n" not in str(found.value)


def test_unknown_recipes_suggest_the_nearest() -> None:
    for typed, meant in (("mini_smok", "mini_smoke"), ("MINI_V3", "mini_v3"), ("sd3-paper", "sd3_paper")):
        with pytest.raises(ConfigError, match=rf"did you mean .*\b{meant}\b"):
            get_recipe(typed)
    with pytest.raises(ConfigError, match="unknown recipe 'zzz'; 'tsdsr train list' lists all"):
        get_recipe("zzz")
    with pytest.raises(ConfigError, match=r"say which function .*: mine\.py:FUNCTION"):
        get_recipe("mine.py")
    with pytest.raises(ConfigError, match="must be a string, got NoneType"):
        get_recipe(None)  # type: ignore[arg-type]


def test_a_folder_belongs_to_one_run(photo_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    cpu: dict[str, Any] = {"device": "cpu", "dtype": "fp32"}
    small = TeacherConfig(
        phases=(Schedule(steps=1, batch_size=2, lr=(1e-3, 1e-3)),),
        networks=NetworkSettings(config=NETWORK),
        crops=dataclasses.replace(TEACHER.crops, size=32),
        validation_share=0.3,
    )
    student = dataclasses.replace(config(1), phases=config(1).phases[:1])
    train_student(student, photo_folder, tmp_path / "student", **cpu)
    train_teacher(small, photo_folder, tmp_path / "teacher", **cpu)
    with pytest.raises(TrainingError, match="contains a student's run; choose another output folder for a teacher"):
        train_teacher(small, "/nodir", tmp_path / "student", **cpu)
    with pytest.raises(TrainingError, match="contains a teacher's run; choose another output folder for a student"):
        train_student(student, "/nodir", tmp_path / "teacher", **cpu)
    with pytest.raises(TrainingError, match="seed: 0 before, 1 now"):
        train_student(dataclasses.replace(student, seed=1), "/nodir", tmp_path / "student", **cpu)
    halves = dataclasses.replace(student, accumulation=2)  # changes results by rounding only
    assert train_student(halves, photo_folder, tmp_path / "student", **cpu).name == "pipeline-00000001"
