"""Batches on the command line: pipes, repeated runs, interruptions, and what is left out."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from tests.child_processes import started
from tests.cli.command import run
from tests.images.pictures import rgb
from tests.signals import as_in_a_terminal
from tests.unprivileged import unprivileged
from tsdsr.cli import app
from tsdsr.pipeline.convert import save_pipeline
from tsdsr.pipeline.diffusers_pipeline import OneStepSRPipeline
from tsdsr.runtimes.upscale_file import upscale_file

DONE, SKIPPED = "1 upscaled, 0 skipped (already there), 0 failed", "0 upscaled, 1 skipped (already there), 0 failed"


@pytest.fixture
def model(mini_pipe: OneStepSRPipeline, tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("models") / "model"
    save_pipeline(mini_pipe, folder)
    return str(folder)


@pytest.fixture
def photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two photographs in the working folder."""
    Image.fromarray(rgb()).save(tmp_path / "a.jpg")
    Image.fromarray(rgb()[::-1].copy()).save(tmp_path / "b.png")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_output_within_the_input_is_resumed(model: str, photos: Path) -> None:
    command = ["upscale", ".", "-o", "out", "--model", model, "--scale", 1]
    assert run(*command)[0] == 0
    (photos / "out" / "b.png").unlink()
    code, output = run(*command)
    assert (code, "1 upscaled, 1 skipped (already there), 0 failed" in output) == (0, True), output
    assert sorted(str(p.relative_to(photos)) for p in photos.rglob("*.???")) == [
        "a.jpg", "b.png", "out/a.jpg", "out/b.png",
    ]  # fmt: skip


def test_the_lines_of_the_page_do_what_they_say(model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Typed one after another, with this model in place of others, each line makes or skips its own results."""
    page = (Path(__file__).parents[2] / "docs" / "how-to" / "upscale.md").read_text()
    lines = [line.split("#")[0].split() for line in page.splitlines() if line.startswith("tsdsr upscale ")]
    assert len(lines) >= 5, lines
    monkeypatch.chdir(tmp_path)
    for name in ("photo.jpg", "logo.png", "photos/beach.jpg", "photos/day 2/sea.png", "scans/one.tif"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rgb(48, 27)).save(tmp_path / name)
    for line in lines:
        arguments = [word.strip('"') for word in line[1:]]
        if "--model" in arguments:
            arguments[arguments.index("--model") + 1] = model
        else:
            arguments += ["--model", model]
        code, output = run(*arguments)
        assert (code, "0 skipped (already there), 0 failed" in output) == (0, True), output
        assert "written to" in output


def test_another_picture_or_model_of_the_same_name_fails(
    model: str, photos: Path, sd21_pipe: OneStepSRPipeline
) -> None:
    for folder in ("c1", "c2"):
        (photos / folder).mkdir()
    (photos / "a.jpg").rename(photos / "c1" / "x.png")
    (photos / "b.png").rename(photos / "c2" / "x.png")
    command = ["-o", "out", "--scale", 1, "--model"]
    assert DONE in run("upscale", "c1/x.png", *command, model)[1]
    assert SKIPPED in run("upscale", "c1/x.png", *command, model)[1]
    code, output = run("upscale", "c2/x.png", *command, model)
    assert (code, "out/x.png was made from another picture; --overwrite replaces it" in output) == (1, True)
    code, output = run("upscale", "c1/x.png", *command, "mini")
    assert (code, "out/x.png was made with other settings (model); --overwrite replaces it" in output) == (1, True)
    for option in (["--seed", 3], ["--icc", "srgb"], ["--detail", 0.5], ["--dtype", "fp32"], ["--tile", 64]):
        code, output = run("upscale", "c1/x.png", *command, model, *option)
        assert (code, f"with other settings ({option[0][2:]})" in output) == (1, True), output  # type: ignore[index]


def test_what_is_left_out_is_said_in_one_line(model: str, photos: Path) -> None:
    for name in ("c.gif", "d.jp2", "._a.jpg", ".thumbnails/t.jpg", "@eaDir/a.jpg"):
        (photos / name).parent.mkdir(exist_ok=True)
        (photos / name).write_bytes(b"")
    code, output = run("upscale", ".", "-o", "out", "--model", model, "--scale", 1)
    assert code == 0
    assert "note: left out: 1 .gif, 1 .jp2, 3 hidden or system files\n" in output
    assert "2 upscaled" in output


def test_inputs_that_cannot_be_read_fail_alone(model: str, photos: Path) -> None:
    (photos / "none").mkdir()
    (photos / "loop.jpg").symlink_to("loop.jpg")
    (photos / "unread.jpg").write_bytes((photos / "a.jpg").read_bytes())
    (photos / "unread.jpg").chmod(0)
    (photos / "none").chmod(0)
    with unprivileged(photos, Path(model)):
        code, output = run("upscale", "none", "loop.jpg", "unread.jpg", "a.jpg", "*.jgp", "-o", "o", "--model", model)
        refused, message = run("upscale", "a.jpg", "-o", "none/x.png", "--model", "nowhere")
    (photos / "none").chmod(0o755)
    assert (code, "1 upscaled, 0 skipped (already there), 4 failed" in output) == (1, True), output
    for text in ("none: the folder cannot be read", "loop.jpg: cannot be read", "*.jgp: no file matches this pattern"):
        assert f"failed: {text}" in output
    assert (refused, message) == (2, "error: none/x.png: cannot be written (Permission denied)\n")


def test_from_pipe_to_pipe(mini_pipe: OneStepSRPipeline, model: str, photos: Path) -> None:
    upscale_file("a.jpg", "expected.png", 2, model=model)
    for source in ("-", "/dev/stdin"):
        command = ["upscale", source, "-o", "-", "--model", model, "--scale", "2"]
        with (photos / "a.jpg").open("rb") as stdin:
            content = subprocess.run(["cat"], stdin=stdin, stdout=subprocess.PIPE, check=True).stdout
        result = subprocess.run([sys.executable, "-m", "tsdsr", *command], input=content, capture_output=True)
        assert result.returncode == 0, result.stderr
        assert result.stdout == (photos / "expected.png").read_bytes()
        assert DONE in result.stderr.decode()
    assert sorted(path.name for path in photos.iterdir()) == [
        ".tsdsr-results.jsonl", "a.jpg", "b.png", "expected.png",
    ]  # fmt: skip


def test_a_pipe_and_another_format(model: str, photos: Path) -> None:
    content = (photos / "a.jpg").read_bytes()
    runner = CliRunner()
    result = runner.invoke(
        app, ["upscale", "-", "-o", "-", "--format", "webp", "--model", model, "--scale", "1"], input=content
    )
    assert result.exit_code == 0, result.stderr
    with Image.open(io.BytesIO(result.stdout_bytes)) as image:
        assert (image.format, image.size) == ("WEBP", (64, 48))
    result = runner.invoke(app, ["upscale", "-", "-o", "out", "--model", model, "--scale", "1"], input=content)
    assert (photos / "out" / "stdin.png").is_file()
    result = runner.invoke(app, ["upscale", "-", "-o", "-", "--model", model], input=b"no image")
    assert (result.exit_code, result.stdout_bytes) == (1, b"")
    assert "failed: /dev/stdin: " in result.stderr


@pytest.mark.skipif(not hasattr(os, "openpty"), reason="needs a pseudo-terminal")
def test_terminals_are_neither_read_nor_written(photos: Path) -> None:
    _, terminal = os.openpty()
    for command, message in {
        ("a.jpg", "-o", "-"): "error: -o -: the standard output is a terminal",
        ("-", "-o", "out"): "error: -: the standard input is a terminal",
    }.items():
        result = subprocess.run(
            [sys.executable, "-m", "tsdsr", "upscale", *command], stdin=terminal, stdout=terminal,
            stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert (result.returncode, message in result.stderr) == (2, True), result.stderr
    os.close(terminal)


@pytest.mark.parametrize(
    ("number", "status", "said"), [(signal.SIGINT, 130, "interrupted"), (signal.SIGTERM, 143, "terminated")]
)
def test_an_interrupted_batch_keeps_what_is_written(
    model: str, photos: Path, number: int, status: int, said: str
) -> None:
    for index in range(200):
        (photos / "many").mkdir(exist_ok=True)
        Image.fromarray(np.roll(rgb(), index, 1)).save(photos / "many" / f"{index:03}.png")
    command = [sys.executable, "-m", "tsdsr", "upscale", "many", "-o", "out", "--model", model, "--scale", "4"]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with started(command, text=True, preexec_fn=as_in_a_terminal, **pipes) as process:
        deadline = time.monotonic() + 120
        while not (photos / "out" / "002.png").is_file():
            assert process.poll() is None, process.communicate()
            assert time.monotonic() < deadline
            time.sleep(0.01)
        process.send_signal(number)
        output, errors = process.communicate(timeout=60)
    assert (process.returncode, errors) == (status, f"{said}\n")
    written = sorted((photos / "out").glob("*.png"))
    counted = int(output.partition(" ")[0])
    assert counted in (len(written) - 1, len(written))  # the signal may come between a file and its count
    assert output.startswith(f"{counted} upscaled, 0 skipped (already there), 0 failed, {200 - counted} left")
    assert {path.name for path in (photos / "out").iterdir()} == {
        ".tsdsr-results.jsonl", *(path.name for path in written),
    }  # fmt: skip
    code, output = run("upscale", *[f"many/{path.name}" for path in written], "-o", "out", "--model", model)
    assert (code, f"0 upscaled, {len(written)} skipped" in output) == (0, True), output


def test_a_damaged_jpeg_xl_does_not_stop_the_batch(model: str, photos: Path) -> None:
    pytest.importorskip("pyjpegxl", reason="JPEG XL needs the extra jxl")
    command = ["upscale", ".", "-o", "out", "--model", model, "--scale", 1, "--format", "jxl", "--lossless"]
    assert run(*command)[0] == 0
    content = (photos / "out" / "a.jxl").read_bytes()
    (photos / "aa.jxl").write_bytes(content[: len(content) // 2])
    (photos / "b.png").write_bytes((photos / "out" / "b.jxl").read_bytes())  # the content decides
    code, output = run(*command, "--overwrite")
    assert (code, "failed: aa.jxl: is truncated or damaged" in output) == (1, True), output
    assert "2 upscaled, 0 skipped (already there), 1 failed" in output
    with pytest.MonkeyPatch.context() as patched:  # without the package nothing begins
        patched.setattr("tsdsr.images.formats.find_spec", lambda _: None)
        code, output = run(*command, "--overwrite")
    assert code != 0
    assert ".[jxl]" in output


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("--actors 2", "--actors needs --on ray"),
        ("--actor-gpus 1", "--actor-gpus needs --on ray"),
        ("--on slurm", "--on takes 'ray', or 'ray=' and the address of a cluster, got 'slurm'"),
        (
            "--on ray --steady 0.5",
            "--steady needs frames in order, which --on ray does not keep; leave out one of them",
        ),
        ("--on ray --actors two", "--actors takes a number, or MIN:MAX, got 'two'"),
        ("--on ray --actors 4:2", "the maximum not below the minimum; got 4, 2"),
        ("--on ray --actors 0", "must be at least 1, and the maximum not below the minimum; got 0"),
        (
            "--on ray --actor-cpus 0",
            "an actor needs CPUs or GPUs, and neither number can be negative; got 0.0 CPUs and 0.0 GPUs",
        ),
        ("--on ray --actor-cpus inf", "neither number can be negative; got inf CPUs and 0.0 GPUs"),
        ("--on ray --actor-gpus 1.5", "an actor takes a fraction of a GPU or a whole number of GPUs, got 1.5"),
        ("--on ray=127.0.0.1:1", "no Ray cluster answers at 127.0.0.1:1"),
    ],
)
def test_mistakes_about_a_cluster(options: str, message: str, photos: Path) -> None:
    code, output = run("upscale", "a.jpg", "-o", "made", *options.split())
    assert code == 2
    assert message in output
    assert output.count("\n") == 1


def test_a_cluster_needs_the_extra(monkeypatch: pytest.MonkeyPatch, photos: Path) -> None:
    monkeypatch.setattr("tsdsr.distributed.cluster.find_spec", lambda name: None)
    code, output = run("upscale", "a.jpg", "-o", "made", "--on", "ray")
    assert code == 2
    assert "restoring on a cluster needs ray: run pip install '.[ray]'" in output
