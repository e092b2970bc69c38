"""``tsdsr train``: from photographs to a pipeline that upscales, and its error messages."""

from __future__ import annotations

import importlib.util
import json
import time
from pathlib import Path

import pytest
from PIL import Image
from typer.testing import CliRunner, Result

from tests.models.base_models import write_sd3
from tsdsr.cli import app
from tsdsr.errors import MissingDependencyError
from tsdsr.pipeline.diffusers_loading import load_diffusers_pipeline
from tsdsr.training.run_log import RunLog, make_accelerator

SMALL = ["--tracker", "none", "--device", "cpu", "--dtype", "fp32"]
TINY_STUDENT = [
    "--set", "pairs.crops.size=32", "--set", "validation_share=0.3", "--set", "validation_crop=64",
    "--set", "log_every=1",
    *(f"--set=phases.{i}.{setting}" for i in (0, 1, 2) for setting in ("steps=1", "batch_size=2", "warmup=0",
      "perceptual_weight=0")),
]  # fmt: skip


def tsdsr(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(a) for a in arguments])


def ok(*arguments: object) -> str:
    result = tsdsr(*arguments)
    assert result.exit_code == 0, result.output
    return result.output


def test_mini_from_teacher_to_upscaled_photo(photo_folder: Path, tmp_path: Path) -> None:
    teacher, student = tmp_path / "teacher", tmp_path / "student"
    out = ok("train", "teacher", "--recipe", "mini_smoke_teacher", "--photos", photo_folder, "-o", teacher, *SMALL)
    assert f"--teacher {teacher / 'teacher'}" in out
    common = ["--photos", photo_folder, "--teacher", teacher / "teacher", "-o", student, *SMALL, *TINY_STUDENT]
    ok("train", "student", "--recipe", "mini_student", *common)
    records = [json.loads(line) for line in (student / "log.jsonl").read_text().splitlines()]
    assert [record["step"] for record in records if record.get("loss/tsd", 0) > 0] == [2, 3]  # first without TSD
    assert "ready for" in ok("train", "student", "--recipe", "mini_student", *common)  # a finished run is left alone
    out = ok("figures", "--run", student, "-o", tmp_path / "figures", "--images", 1, "--device", "cpu")
    assert all((tmp_path / "figures" / f"figure{n}.{kind}").is_file() for n in (3, 5) for kind in ("csv", "png")), out
    refused = tsdsr("figures", "--run", tmp_path / "nothing", "-o", tmp_path / "figures")
    assert refused.exit_code == 2
    assert "no such folder" in refused.output
    pipe = load_diffusers_pipeline(student / "pipeline-00000003")
    with Image.open(photo_folder / "astronaut.png") as photo:
        small = photo.resize((40, 30))
    assert pipe(small, scale=2).images[0].size == (80, 60)
    grown, before = tmp_path / "grown", student / "pipeline-00000003"
    changes = ("networks.config.fine_channels=8", "phases.1.tsd=null", "phases.2.tsd=null")
    settings = [f"--set={change}" for change in changes]
    ok("train", "student", "--recipe", "mini_student", *common, "-o", grown, "--init", before, *settings)
    assert load_diffusers_pipeline(grown / "pipeline-00000003").denoiser.config["fine_channels"] == 8


def test_photographs_in_shards(photo_folder: Path, tmp_path: Path) -> None:
    shards = tmp_path / "shards"
    ok("data", "shard", photo_folder, "-o", shards, "--min-side", 64, "--per-shard", 2)
    for kind, recipe in (("teacher", "mini_smoke_teacher"), ("student", "mini_smoke")):
        command = ["train", kind, "--recipe", recipe, "-o", tmp_path / kind, *SMALL]
        assert "ready for" in ok(*command, "--shards", f"{shards}/{{000000..000001}}.tar,limit=3,weight=2")
        for given, message in (
            ([], "no photographs were given: name them with --photos or --shards"),
            (["--shards", tmp_path / "gone.tar"], "gone.tar: no such folder or shard"),
            (["--shards", tmp_path / "{1..0}.tar"], "the range {1..0} runs backwards"),
        ):
            result = tsdsr(*command, *given)
            assert (result.exit_code, message in result.output) == (2, True), result.output


def test_sd3_from_base_to_released_layout_and_pipeline(photo_folder: Path, tmp_path: Path) -> None:
    """All steps of a full-size training, with a tiny SD3 and real text encoder classes."""
    base = write_sd3(tmp_path / "base")
    cache = tmp_path / "cache"
    ok("data", "cache", photo_folder, "-o", cache, "--base", base, "--device", "cpu")
    settings = [
        "--set", "networks.lora_rank=2", "--set", "networks.base_precision=fp32", "--set", "validation_share=0.3",
        "--base", base, "--cache", cache, "--photos", photo_folder, *SMALL,
    ]  # fmt: skip
    run = ["--set", "phases.0.steps=1", "--set", "phases.0.batch_size=1", "--set", "phases.0.warmup=0"]
    out = ok(
        "train", "teacher", "--recipe", "sd3_teacher", "--set", "crops.size=64", "--set", "validation_crop=64",
        *run, *settings, "-o", tmp_path / "teacher",
    )  # fmt: skip
    assert "teacher.safetensors" in out
    more = ok(
        "train", "teacher", "--recipe", "sd3_teacher", "--set", "crops.size=64", "--set", "validation_crop=64",
        *run, *settings, "-o", tmp_path / "more", "--init", tmp_path / "teacher" / "teacher.safetensors",
    )  # fmt: skip
    assert "ready for" in more
    phases = [
        f"--set=phases.{i}.{setting}"
        for i in (0, 1)
        for setting in ("steps=1", "batch_size=1", "warmup=0", "perceptual_weight=0")
    ]
    student = tmp_path / "student"
    ok(
        "train", "student", "--recipe", "sd3_paper", "--teacher", tmp_path / "teacher" / "teacher.safetensors",
        "--set", "pairs.crops.size=64", "--set", "validation_crop=64", *phases, *settings, "-o", student,
    )  # fmt: skip
    lora = student / "lora-00000002"
    assert sorted(p.name for p in lora.iterdir()) == [
        "pool_embeds.safetensors", "prompt_embeds.safetensors", "transformer.safetensors", "vae.safetensors",
    ]  # fmt: skip
    pipe = load_diffusers_pipeline(student / "pipeline-00000002")
    with Image.open(photo_folder / "astronaut.png") as photo:
        small = photo.resize((16, 16))
    assert pipe(small, scale=4).images[0].size == (64, 64)
    again = tmp_path / "again"  # continue from a stored LoRA
    ok(
        "train", "student", "--recipe", "sd3_paper", "--init", lora, "--set", "pairs.crops.size=64",
        "--set", "validation_crop=64", *phases, *settings, "-o", again, "--until", 1,
    )  # fmt: skip
    assert (again / "pipeline-00000001").is_dir()


def test_a_dry_run_prints_the_settings_and_does_nothing(tmp_path: Path) -> None:
    out = ok(
        "train", "student", "--recipe", "sd3_24gb", "--photos", tmp_path, "-o", tmp_path / "run", "--dry-run",
        "--set", "phases.0.steps=5", "--set", "phases.0.warmup=0",
    )  # fmt: skip
    assert '"steps": 5' in out
    assert "20,005 steps, 320,080 samples" in out
    assert "2112.1 M, 4.43 GB" in out
    assert not (tmp_path / "run").exists()
    assert '"time_density": "uniform"' in ok("train", "teacher", "--photos", tmp_path, "-o", tmp_path, "--dry-run")


def test_a_dry_run_says_what_each_gpu_does(tmp_path: Path) -> None:
    arguments = (
        "train",
        "student",
        "--recipe",
        "mini_smoke",
        "--photos",
        tmp_path,
        "-o",
        tmp_path / "run",
        "--gpus",
        "2",
    )
    assert "phase 2, 1 image at a time on each of 2 GPUs: 0.0 GB, or 0.0 GB sharded" in ok(*arguments, "--dry-run")
    refused = tsdsr(*arguments)
    assert refused.exit_code == 2
    assert "add --dry-run" in refused.output


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["student", "--recipe", "mini_student"], "needs a teacher"),
        (["student", "--recipe", "nonsense"], "unknown recipe"),
        (["student", "--recipe", "mini_teacher"], "train teacher"),
        (["student", "--recipe", "mini_smoke", "--set", "seeds=1"], "no 'seeds' in"),
        (["student", "--recipe", "sd3_paper", "--set", "networks.base_precision=fp32"], "--cache"),
        (["teacher", "--recipe", "sd3_teacher", "--set", "networks.base_precision=fp32"], "--cache"),
        (["student", "--recipe", "mini_student", "--teacher", "nowhere"], "--teacher nowhere: no such folder"),
    ],
)
def test_what_is_missing_is_named(photo_folder: Path, tmp_path: Path, arguments: list[str], message: str) -> None:
    result = tsdsr("train", *arguments, "--photos", photo_folder, "-o", tmp_path / "run", *SMALL)
    assert result.exit_code == 2
    assert message in result.output


def test_a_tracker_that_is_not_installed_is_named(photo_folder: Path, tmp_path: Path) -> None:
    if importlib.util.find_spec("wandb") is not None:
        pytest.skip("wandb is installed here")
    result = tsdsr(
        "train", "student", "--recipe", "mini_smoke", "--photos", photo_folder, "-o", tmp_path, "--device", "cpu",
        "--tracker", "wandb",
    )  # fmt: skip
    assert result.exit_code == 2
    assert "pip install wandb" in result.output


def test_without_tensorboard_the_whole_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("accelerate.utils.imports.is_tensorboard_available", lambda: False)
    with pytest.raises(MissingDependencyError, match=r"pip install '\.\[train\]'.*--tracker none"):
        make_accelerator(tmp_path, "cpu", "tensorboard")


def test_tensorboard_gets_the_figures(photo_folder: Path, tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    ok(
        "train", "student", "--recipe", "mini_smoke", "--photos", photo_folder, "-o", tmp_path, "--device", "cpu",
        "--tracker", "tensorboard",
    )  # fmt: skip
    assert list(tmp_path.rglob("events.out.tfevents.*"))


def test_tensorboard_shows_no_step_twice_after_a_kill(tmp_path: Path) -> None:
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    for start in (0, 2):  # the first process is killed after step 4, its last checkpoint is of step 2
        accelerator = make_accelerator(tmp_path, "cpu", "tensorboard")
        log = RunLog(tmp_path, accelerator, 4)
        log.cut(start)
        log.start_trackers(start)
        for step in range(start + 1, 5):
            log.log(step, {"loss": float(step)})
        accelerator.end_training()
        time.sleep(1.1)  # event files are ordered by their second
    events = accumulator.EventAccumulator(str(tmp_path / "tsdsr")).Reload()
    assert [event.step for event in events.Scalars("loss")] == [1, 2, 3, 4]
    assert [json.loads(line)["step"] for line in (tmp_path / "log.jsonl").read_text().splitlines()] == [1, 2, 3, 4]


def test_ctrl_c_before_the_first_step_is_one_line(
    photo_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("tsdsr.training.run.open_source", interrupt)
    result = tsdsr(
        "train", "student", "--recipe", "mini_smoke", "--photos", photo_folder, "-o", tmp_path / "run", *SMALL
    )
    assert result.exit_code == 130
    assert result.output.splitlines() == [
        "stopped at once; repeat the command to continue from the last checkpoint, if any"
    ]
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["-o", ""], "is empty"),
        (["-o", "FILE"], "is a file"),
        (["--base", "/nodir"], "--base has no effect"),
        (["--cache", "/nodir"], "--cache has no effect"),
        (["--set", "seed=18446744073709551616"], "seed must be"),
        (["--set", "phases.0.lr=[NaN,NaN]"], "lr must be"),
        (["--device", "foo"], "unknown device 'foo'"),
        (["--recipe", "mini_smok"], "did you mean mini_smoke"),
    ],
)
def test_wrong_arguments_end_with_status_2_and_one_line(
    photo_folder: Path, tmp_path: Path, arguments: list[str], message: str
) -> None:
    file = tmp_path / "file"
    file.touch()
    given = [str(file) if a == "FILE" else a for a in arguments]
    common = ["--recipe", "mini_smoke", "--photos", photo_folder, "-o", tmp_path / "run", "--tracker", "none"]
    result = tsdsr("train", "student", *common, *given)
    assert result.exit_code == 2
    assert message in result.output
    assert len(result.output.splitlines()) == 1


def test_recipes_are_listed() -> None:
    out = ok("train", "list")
    assert "``" not in out
    assert "mini_smoke " in out
    assert "sd3_paper_dasm_8x50 " in out
    assert all(len(line.split(maxsplit=1)) == 2 for line in out.splitlines())


def test_a_recipe_of_ones_own(photo_folder: Path, tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text(
        "import dataclasses\nfrom tsdsr.recipes.mini import mini_smoke\n"
        "def short():\n    return dataclasses.replace(mini_smoke(), seed=7)\n"
        "def broken():\n    return 1 / 0\ndef other():\n    return 3\n"
    )
    run = ["--photos", photo_folder, "-o", tmp_path / "run", *SMALL]
    assert "ready for" in ok("train", "student", "--recipe", f"{file}:short", *run)
    for recipe, message in (
        (f"{file}:nothing", "has no function 'nothing'"),
        (f"{file}:broken", "broken() fails (ZeroDivisionError"),
        (f"{file}:other", "other() returns int"),
        (f"{tmp_path}/none.py:short", "none.py: no such file"),
    ):
        result = tsdsr("train", "student", "--recipe", recipe, *run)
        assert result.exit_code == 2
        assert message in result.output
