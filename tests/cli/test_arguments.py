"""Argument checks before a model is loaded, and help texts."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from PIL import Image
from typer.testing import CliRunner

from tests.cli.command import run
from tsdsr.cli import app
from tsdsr.cli.common import SOURCE_HELP
from tsdsr.pipeline.convert import save_pipeline
from tsdsr.pipeline.diffusers_pipeline import OneStepSRPipeline

LOADERS = (
    "runtimes.open_model.load_pipeline",
    "pipeline.diffusers_loading.load_diffusers_pipeline",
    "pipeline.diffusers_loading.read_pipeline",
    "pipeline.convert.convert_released",
)


@pytest.fixture
def unloaded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever loads a model fails the test."""
    for name in LOADERS:
        monkeypatch.setattr(f"tsdsr.{name}", lambda *_, **__: pytest.fail("a model was loaded"))


@pytest.mark.usefixtures("unloaded")
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("--scale 9", "scale must lie between 1 and 8, got 9"),
        ("--scale 0.5", "scale must lie between 1 and 8, got 0.5"),
        ("--scale nan", "scale must lie between 1 and 8, got nan"),
        ("--tile 5", "tile must be at least 64 pixels, got 5"),
        ("--tile some", "--tile takes 'auto', 'off' or a number"),
        ("--target wide", "--target takes WIDTHxHEIGHT"),
        ("--target 100x100", "target 100x100 is"),
        ("--target 9000x9000", "both sides must grow by 1 to 8"),
        ("--format gif", "unknown output format '.gif'"),
        ("--quality 0", "quality must lie between 1 and 100"),
        ("--preset upstream --scale 2.5", "the upstream preset takes whole scales"),
        (f"--target {'9' * 5000}x1", "--target takes WIDTHxHEIGHT"),
        ("--target ²x1", "--target takes WIDTHxHEIGHT"),
        (f"--tile {'9' * 5000}", "--tile takes 'auto', 'off' or a number"),
        ("--tile ²", "--tile takes 'auto', 'off' or a number"),
        ("--scale 0", "scale must lie between 1 and 8, got 0"),
        ("--tile 1", "tile must be at least 64 pixels, got 1"),
        ("--seed -1", "seed must be a whole number from 0 to 2**64 - 1, got -1"),
        ("--seed 18446744073709551616", "seed must be a whole number"),
        ("--seed 99999999999999999999999", "seed must be a whole number"),
        ("--engine openvino --seed 1", "leave out the seed"),
        ("--format=", "--format: is empty"),
        ("--format=.", "--format is empty"),
        ("--model=", "--model: is empty"),
        ("--device=", "--device: is empty"),
        ("--fit cover", "--fit cover needs --target"),
        ("--preset upstream", "the upstream preset exists for SD3 models, not for 'mini'"),
        ("--preset upstream --tile 128", "no --target, --tile, --seed, --detail or --steady"),
        ("--preset upstream --seed 1", "no --target, --tile, --seed, --detail or --steady"),
    ],
)
def test_a_bad_argument_is_one_line_and_status_two(
    photo_folder: Path, tmp_path: Path, options: str, message: str
) -> None:
    code, output = run("upscale", photo_folder, "-o", tmp_path / "out", *options.split())
    assert (code, message in output) == (2, True), output
    assert output.startswith("error: ")
    assert len(output.strip().splitlines()) == 1
    assert not (tmp_path / "out").exists()


@pytest.mark.usefixtures("unloaded")
@pytest.mark.parametrize(
    "option",
    [
        "--preset sharp",
        "--color-fix sepia",
        "--scale x",
        "--tile-batch 0",
        "--detail nan",
        "--max-pixels 0",
        "--max-pixels -5",
        "--fit fill",
    ],
)
def test_a_value_that_typer_refuses_has_status_two(photo_folder: Path, tmp_path: Path, option: str) -> None:
    code, output = run("upscale", photo_folder, "-o", tmp_path / "out", *option.split())
    assert (code, option.split()[0].lstrip("-") in output) == (2, True)


@pytest.mark.usefixtures("unloaded")
def test_without_any_input_there_is_nothing_to_do(tmp_path: Path) -> None:
    code, output = run("upscale", tmp_path / "a.png", tmp_path / "b.png", "-o", tmp_path / "out")
    assert (code, output) == (2, f"error: {tmp_path / 'a.png'}, {tmp_path / 'b.png'}: no such file\n")


@pytest.mark.usefixtures("unloaded")
def test_no_model_is_loaded_when_nothing_is_left_to_do(photo_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "cat.webp").write_bytes(b"there")
    code, output = run("upscale", photo_folder / "cat.webp", tmp_path / "missing.png", "-o", tmp_path)
    assert code == 1
    assert f"failed: {tmp_path / 'missing.png'}: no such file" in output
    assert f"failed: {photo_folder / 'cat.webp'}: {tmp_path / 'cat.webp'} is there already" in output
    assert "0 upscaled, 0 skipped (already there), 2 failed" in output


def test_a_target_that_some_inputs_reach_fails_the_others(
    mini_pipe: OneStepSRPipeline, photo_folder: Path, tmp_path: Path
) -> None:
    save_pipeline(mini_pipe, tmp_path / "model")
    exif = Image.Exif()
    exif[0x0112] = 6
    with Image.open(photo_folder / "cat.webp") as image:  # 451x300, seen as 300x451
        image.resize((60, 30)).save(tmp_path / "turned.png", exif=exif)
    code, output = run(
        "upscale", photo_folder / "cat.webp", tmp_path / "turned.png", "-o", tmp_path / "out", "--model",
        tmp_path / "model", "--target", "60x120",
    )  # fmt: skip
    assert (code, "1 upscaled, 0 skipped (already there), 1 failed" in output) == (1, True), output
    assert f"failed: {photo_folder / 'cat.webp'}: target 60x120 is" in output
    with Image.open(tmp_path / "out" / "turned.png") as image:
        assert image.size == (60, 120)


@pytest.mark.usefixtures("unloaded")
def test_a_tile_too_small_for_the_model_is_found_once(
    sd21_pipe: OneStepSRPipeline, photo_folder: Path, tmp_path: Path
) -> None:
    save_pipeline(sd21_pipe, tmp_path / "model")
    code, output = run("upscale", photo_folder, "-o", tmp_path / "out", "--model", tmp_path / "model", "--tile", 100)
    assert code == 2
    assert output == "error: tile must be at least 256 pixels for 'sd21-base', got 100\n"


@pytest.mark.usefixtures("unloaded")
@pytest.mark.parametrize(
    "command",
    ["fold mini -o", "train average mini mini -o", "export -o", "convert --base b --lora l --embeddings e -o"],
)
def test_an_output_that_exists_is_found_before_the_work(tmp_path: Path, command: str) -> None:
    code, output = run(*command.split(), tmp_path)
    assert (code, output) == (2, f"error: {tmp_path}: already exists; choose another name or remove it\n")
    (tmp_path / "file").touch()
    for path in (tmp_path / "file" / "model", tmp_path / "new" / ("x" * 256)):
        code, output = run(*command.split(), path)
        assert (code, output.startswith(f"error: {path}: "), output.count("\n")) == (2, True, 1), output


@pytest.mark.usefixtures("unloaded")
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("bench mini --scale 9", "scale must lie between 1 and 8"),
        ("bench mini mini,dtype=fp9", "unknown dtype 'fp9'"),
        ("bench mini mini,quantize=int3", "unknown quantisation 'int3'"),
        ("bench mini random:sd9", "unknown base model"),
        ("bench mini released:sd3,fold", "leave out fold, quantize and compile"),
        ("compare mini --lr nowhere -o out", "nowhere: no such folder"),
    ],
)
def test_other_commands_check_first_too(arguments: str, message: str) -> None:
    code, output = run(*arguments.split())
    assert (code, message in output) == (2, True), output


def commands(command: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    yield path, command
    for name, child in getattr(command, "commands", {}).items():
        yield from commands(child, (*path, name))


COMMANDS = dict(commands(typer.main.get_command(app)))


@pytest.mark.parametrize("path", COMMANDS, ids=lambda path: " ".join(path) or "tsdsr")
def test_help_shows_every_text_to_the_letter(path: tuple[str, ...]) -> None:
    command = COMMANDS[path]
    result = CliRunner().invoke(app, [*path, "--help"])
    assert result.exit_code == 0
    shown = "".join(result.output.split())  # lines are broken anywhere
    texts = [command.help, *(text for p in command.params for text in (getattr(p, "help", None), p.metavar))]
    for text in filter(None, texts):
        assert "".join(text.split()) in shown, text


def test_brackets_of_a_source_are_in_the_help() -> None:
    assert "[folder|div2k|" in SOURCE_HELP
    shown = "".join(run("train", "student", "--help")[1].split())
    assert "[folder|div2k|flickr2k|lsdir|ffhq:]PATH[,limit=N][,weight=W]" in shown


def quietly(*command: str) -> str:
    """Standard output of a process that must not write anything to the error stream."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("COV")}
    result = subprocess.run([sys.executable, *command], capture_output=True, text=True, env=environment)
    assert (result.returncode, result.stderr) == (0, "")
    return result.stdout


def test_commands_print_no_notes_of_other_packages(photo_folder: Path, tmp_path: Path) -> None:
    with Image.open(photo_folder / "cat.webp") as image:
        image.resize((16, 12)).save(tmp_path / "tiny.png")
    assert "upscale" in quietly("-m", "tsdsr", "--help")
    assert "torch" in quietly("-m", "tsdsr", "info")
    assert "1 upscaled" in quietly(
        "-m", "tsdsr", "upscale", str(tmp_path / "tiny.png"), "-o", str(tmp_path / "out.png")
    )


def test_bitsandbytes_missing_kernel_is_not_reported() -> None:
    """Also where it is not installed; its other warnings stay."""
    code = """
import logging, sys, tsdsr
logger = logging.getLogger("bitsandbytes.backends.cpu.ops")
logger.warning("Failed to load CPU gemm_4bit_forward from kernels-community: %s", "No module named 'kernels'")
logger.addHandler(logging.StreamHandler(sys.stdout))
logger.propagate = False
logger.warning("something that matters")
"""
    assert quietly("-c", code) == "something that matters\n"
