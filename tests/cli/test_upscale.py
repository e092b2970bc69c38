"""The command line, end to end with a tiny model."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

import tsdsr
from tests.cli.command import run
from tests.images.colored import cicp, flat, write_png
from tests.images.pictures import deep, metadata, ramp, rgb
from tsdsr.images.picture import Picture
from tsdsr.images.reading import read_picture
from tsdsr.images.writing import write_picture
from tsdsr.pipeline.convert import save_pipeline
from tsdsr.pipeline.diffusers_loading import load_diffusers_pipeline
from tsdsr.pipeline.diffusers_pipeline import OneStepSRPipeline


@pytest.fixture
def model(mini_pipe: OneStepSRPipeline, tmp_path: Path) -> str:
    save_pipeline(mini_pipe, tmp_path / "model")
    return str(tmp_path / "model")


def test_a_folder_is_upscaled_with_its_structure(model: str, photo_folder: Path, tmp_path: Path) -> None:
    code, output = run("upscale", photo_folder, "-o", tmp_path / "out", "--model", model, "--scale", 1.5)
    assert code == 0, output
    assert "4 upscaled, 0 skipped (already there), 0 failed" in output
    assert sorted(str(p.relative_to(tmp_path / "out")) for p in (tmp_path / "out").rglob("[!.]*.*")) == [
        "astronaut.png", "cat.webp", "coffee.jpg", "more/rocket.bmp",
    ]  # fmt: skip
    with Image.open(tmp_path / "out" / "astronaut.png") as image:
        assert image.size == (768, 768)
    code, output = run("upscale", photo_folder, "-o", tmp_path / "out", "--model", model, "--scale", 1.5)
    assert "0 upscaled, 4 skipped" in output


def test_failures_are_listed_and_the_rest_is_done(model: str, photo_folder: Path, tmp_path: Path) -> None:
    (photo_folder / "broken.png").write_bytes(b"x")
    missing = tmp_path / "missing.jpg"
    code, output = run("upscale", photo_folder, missing, "-o", tmp_path / "out", "--model", model, "--scale", 1)
    assert code == 1
    assert "4 upscaled, 0 skipped (already there), 2 failed" in output
    assert f"failed: {photo_folder / 'broken.png'}: is a text, not an image" in output
    assert f"failed: {missing}: no such file" in output


def test_one_file_to_one_file_with_every_option(model: str, photo_folder: Path, tmp_path: Path) -> None:
    target = tmp_path / "big.webp"
    code, output = run(
        "upscale", photo_folder / "cat.webp", "-o", target, "--model", model, "--target", "600x500", "--fit", "cover",
        "--tile", 256,
        "--tile-batch", 2, "--color-fix", "adain", "--device", "cpu", "--dtype", "fp32", "--seed", 3, "--overwrite",
    )  # fmt: skip
    assert code == 0, output
    assert f"written to {target}" in output
    with Image.open(target) as image:
        assert (image.format, image.size) == ("WEBP", (600, 500))


def test_another_format(model: str, photo_folder: Path, tmp_path: Path) -> None:
    code, _ = run(
        "upscale", photo_folder / "cat.webp", "-o", tmp_path, "--model", model, "--scale", 1, "--format", "PNG"
    )
    assert code == 0
    with Image.open(tmp_path / "cat.png") as image:
        assert image.format == "PNG"


def test_files_keep_their_metadata(model: str, tmp_path: Path) -> None:
    source = Picture(deep(rgb()), deep(ramp()), metadata())
    write_picture(source, tmp_path / "a.png")
    run("upscale", tmp_path / "a.png", "-o", tmp_path / "b.tif", "--model", model, "--scale", 2)
    kept = read_picture(tmp_path / "b.tif")
    assert (kept.max_value, kept.width, kept.alpha is None) == (65535, 128, False)
    assert (kept.metadata.icc, kept.metadata.dpi) == (source.metadata.icc, source.metadata.dpi)
    code, output = run(
        "upscale", tmp_path / "a.png", "-o", tmp_path / "b.jpg", "--model", model, "--scale", 2, "--icc", "srgb",
        "--quality", 40, "--subsampling", "420",
    )  # fmt: skip
    assert code == 0
    assert f"note: {tmp_path / 'a.png'}: JPEG has no transparency: it is flattened onto white" in output
    assert f"note: {tmp_path / 'a.png'}: 16 bits are rounded to the 8 of JPEG" in output
    assert read_picture(tmp_path / "b.jpg").metadata.icc is None
    code, output = run("upscale", tmp_path / "a.png", "-o", tmp_path / "c.jpg", "--model", model, "--quality", 0)
    assert (code, "quality must lie between 1 and 100" in output) == (2, True)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--model", "nowhere/at/all"], "no such model"),
        (["--target", "wide"], "--target takes WIDTHxHEIGHT"),
        (["--target", "300x300", "--scale", "2"], "--scale and --target exclude each other"),
        (["--tile", "some"], "--tile takes 'auto', 'off' or a number"),
        (["--device", "toaster"], "toaster"),
        (["--format", "gif"], "unknown output format"),
    ],
)
def test_mistakes_are_one_line_and_status_two(
    photo_folder: Path, tmp_path: Path, arguments: list[str], message: str
) -> None:
    code, output = run("upscale", photo_folder, "-o", tmp_path / "out", *arguments)
    assert code == 2
    assert message in output
    assert output.startswith("error: ")
    assert len(output.strip().splitlines()) == 1


def test_large_images_are_failures_of_their_file(model: str, photo_folder: Path, tmp_path: Path) -> None:
    file = photo_folder / "cat.webp"
    code, output = run("upscale", file, "-o", tmp_path / "out", "--model", model, "--max-pixels", 1000)
    assert (code, "--max-pixels" in output) == (1, True)


def test_info_names_versions_engines_and_models() -> None:
    code, output = run("info")
    assert code == 0
    for word in ("torch", "diffusers", "providers: ", "cpu", "mini", "sd3", "flux2-klein", "'auto' takes the engine"):
        assert word in output


def test_info_names_what_is_broken(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(name: str) -> None:
        raise OSError("libcudart.so.12 is missing")

    monkeypatch.setattr("tsdsr.errors.import_module", broken)
    code, output = run("info")
    assert code == 0
    assert "libcudart.so.12 is missing" in " ".join(output.replace("│", " ").split())


def test_info_shows_whole_hub_ids() -> None:
    _, output = run("info")
    sources = "".join(line.split("│")[3].strip() for line in output.splitlines() if line.count("│") == 4)
    assert "…" not in sources
    assert "stabilityai/stable-diffusion-3.5-medium" in sources


def test_version() -> None:
    assert run("--version") == (0, f"{tsdsr.__version__}\n")


def test_convert_and_the_upstream_preset(reference: Path, tmp_path: Path) -> None:
    tiny = reference / "tiny_sd3"
    base = ["convert", "--base", tiny, "--lora", tiny / "lora", "--embeddings", tiny / "emb"]
    code, output = run(*base, "-o", tmp_path / "sd3", "--dtype", "fp32")
    assert code == 0, output
    source = reference / "inference" / "inputs" / "sq128.png"
    code, output = run("upscale", source, "-o", tmp_path, "--model", tmp_path / "sd3", "--preset", "upstream")
    assert code == 0, output
    code, output = run(*base, "-o", tmp_path / "sd3")
    assert (code, "already exists" in output) == (2, True)
    upstream = ["upscale", source, "-o", tmp_path, "--model", tmp_path / "sd3", "--preset", "upstream"]
    code, output = run(*upstream, "--seed", 1)
    assert (code, "no --target, --tile, --seed, --detail or --steady" in output) == (2, True)


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_training_a_student_gives_a_usable_pipeline(photo_folder: Path, tmp_path: Path) -> None:
    arguments = [
        "train",
        "student",
        "--photos",
        photo_folder,
        "-o",
        tmp_path / "run",
        "--recipe",
        "mini_smoke",
        "--dtype",
        "fp32",
    ]
    code, output = run(*arguments, "--until", 1)
    assert code == 0, output
    code, output = run(*arguments)
    assert code == 0, output
    pipe = load_diffusers_pipeline(tmp_path / "run" / "pipeline-00000002", "cpu", "fp32")
    assert pipe(Image.new("RGB", (8, 8))).images[0].size == (32, 32)
    code, output = run("train", "student", "--photos", photo_folder, "-o", tmp_path / "run", "--recipe", "nothing")
    assert (code, "unknown recipe" in output) == (2, True)


def test_help_takes_less_than_half_a_second_of_processor_time() -> None:
    program = shutil.which("tsdsr", path=str(Path(sys.executable).parent)) or "tsdsr"
    before = os.times()
    for _ in range(3):
        result = subprocess.run([program, "--help"], capture_output=True, text=True, check=True)
    after = os.times()
    assert "upscale" in result.stdout
    spent = after.children_user + after.children_system - before.children_user - before.children_system
    assert spent / 3 < 0.5


def test_high_dynamic_range_is_refused_or_tone_mapped(model: str, tmp_path: Path) -> None:
    write_png(tmp_path / "pq.png", flat(120, 110, 100), cicp(9, 16))
    write_png(tmp_path / "p3.png", flat(120, 110, 100), cicp(12, 13))
    arguments = ("upscale", tmp_path / "pq.png", tmp_path / "p3.png", "-o", tmp_path / "out", "--model", model)
    code, output = run(*arguments, "--scale", 1)
    assert code == 1
    assert "has high dynamic range (PQ, BT.2020)" in output
    assert "--icc srgb" in output
    assert [path.name for path in (tmp_path / "out").glob("*.png")] == ["p3.png"]
    assert read_picture(tmp_path / "out" / "p3.png").metadata.icc is not None
    code, output = run(*arguments, "--scale", 1, "--icc", "srgb", "--overwrite")
    assert code == 0, output
    assert "PQ is tone-mapped to sRGB" in output
    assert read_picture(tmp_path / "out" / "p3.png").metadata.icc is None
