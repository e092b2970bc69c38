"""``tsdsr data``, end to end."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest
from PIL import Image

from tests.cli.command import run
from tests.conftest import tiny_vae
from tests.models.text_models import write_blip, write_sd3_text
from tsdsr.data.shard_index import open_shards
from tsdsr.data.sources import list_photos


def test_degrade_and_replay(photo_folder: Path, tmp_path: Path) -> None:
    options = ["--preset", "realesrgan", "--seed", 4, "--crop", 64, "--count", 5]
    code, output = run("data", "degrade", photo_folder, "-o", tmp_path / "a", *options)
    assert (code, "5 pairs" in output) == (0, True), output
    pairs = list(zip(list_photos(tmp_path / "a" / "lr"), list_photos(tmp_path / "a" / "hr"), strict=True))
    assert len(pairs) == 5
    code, output = run(
        "data", "degrade", photo_folder, "-o", tmp_path / "b", "--replay", tmp_path / "a" / "manifest.jsonl"
    )
    assert code == 0, output
    for low, _ in pairs:
        assert (tmp_path / "b" / "lr" / low.name).read_bytes() == low.read_bytes()
    code, output = run("data", "degrade", photo_folder, "-o", tmp_path / "c", "--crop", 66)
    assert (code, "multiple of the scale" in output) == (2, True)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--crop", 0], "multiple of the scale"),
        (["--crop", -4], "multiple of the scale"),
        (["--count", 0], "count must be at least 1"),
        (["--count", -1], "count must be at least 1"),
        (["--seed", 2**64], "seed must lie between"),
        (["--seed", -1], "seed must lie between"),
        (["--replay", "manifest.jsonl", "--seed", 0], "leave out --seed"),
        (["-o", "afile"], "is a file"),
        (["-o", "photos"], "among the photographs"),
    ],
)
def test_degrade_checks_its_arguments_first(
    photo_folder: Path, monkeypatch: pytest.MonkeyPatch, options: list[str | int], message: str
) -> None:
    monkeypatch.chdir(photo_folder.parent)
    Path("afile").touch()
    before = sorted(photo_folder.rglob("*"))
    code, output = run("data", "degrade", "photos", "-o", "out", *options)
    assert (code, message in output) == (2, True), output
    assert sorted(photo_folder.rglob("*")) == before
    assert not Path("out").exists()


def test_degrade_reports_an_unusable_photograph_and_goes_on(photo_folder: Path, tmp_path: Path) -> None:
    (photo_folder / "broken.png").write_bytes(b"x")
    out = tmp_path / "set"
    code, output = run("data", "degrade", photo_folder, "-o", out, "--crop", 320)
    assert code == 1
    assert "3 pairs in" in output
    assert "2 failed" in output
    assert "cat.webp: 451x300 is smaller than the crop of 320" in output
    assert "broken.png: is" in output
    code, output = run("data", "degrade", photo_folder, "-o", out, "--crop", 320, "--seed", 1)
    assert (code, "--overwrite" in output) == (2, True)
    code, output = run("data", "degrade", photo_folder / "coffee.jpg", "-o", out, "--crop", 64, "--overwrite")
    assert (code, "1 pair in" in output) == (0, True), output
    assert [p.name for p in list_photos(out)] == ["coffee.png", "coffee.png"]
    code, output = run("data", "degrade", photo_folder, "-o", out, "--crop", 4000, "--overwrite")
    assert (code, "no pair can be made" in output, "5 failed" in output) == (1, True, True), output
    assert [p.name for p in list_photos(out)] == ["coffee.png", "coffee.png"]


def test_degrade_without_opencv_replaces_nothing(
    photo_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = ["data", "degrade", photo_folder, "-o", tmp_path / "set", "--crop", 64]
    run(*command)
    before = {path: path.read_bytes() for path in (tmp_path / "set").rglob("*.*")}
    monkeypatch.delattr("tsdsr.data.operators_cpu", raising=False)
    monkeypatch.setitem(sys.modules, "cv2", None)
    monkeypatch.delitem(sys.modules, "tsdsr.data.operators_cpu", raising=False)
    code, output = run(*command, "--seed", 1, "--overwrite")
    assert code == 2
    assert output.count("pip install '.[train]'") == 1
    assert {path: path.read_bytes() for path in (tmp_path / "set").rglob("*.*")} == before


def test_degrade_leaves_its_own_results_out(photo_folder: Path) -> None:
    for _ in range(2):
        code, output = run("data", "degrade", photo_folder, "-o", photo_folder / "set", "--crop", 64)
        assert (code, "4 pairs" in output) == (0, True), output


@pytest.mark.filterwarnings("ignore")
def test_from_photographs_to_shards_with_prompts(photo_folder: Path, tmp_path: Path) -> None:
    blip = write_blip(tmp_path / "blip")
    caption = ["data", "caption", photo_folder, "-o", tmp_path / "prompts", "--model", blip, "--dtype", "fp32"]
    code, output = run(*caption)
    assert (code, "4 prompts written, 0 were there" in output) == (0, True), output
    code, output = run(*caption)
    assert "0 prompts written, 4 were there" in output
    code, output = run(*caption, "--instruction", "in French")
    assert (code, "4 texts belong to other images" in output, "--overwrite" in output) == (2, True, True), output
    code, output = run(
        "data", "shard", photo_folder, "-o", tmp_path / "shards", "--per-shard", 3, "--prompts", tmp_path / "prompts",
        "--min-side", 300,
    )  # fmt: skip
    assert (code, "4 images in 2 shards" in output) == (0, True), output
    again = ["data", "shard", photo_folder, "-o", tmp_path / "shards", "--min-side", 300]
    code, output = run(*again)
    assert (code, "contains shards of other" in output, "--overwrite" in output) == (2, True, True), output
    texts = {photo.name: photo.read_prompt() for photo in open_shards(tmp_path / "shards", tmp_path).images}
    assert texts["more/rocket.bmp"] == (tmp_path / "prompts" / "more" / "rocket.txt").read_text().strip()
    (photo_folder / "broken.png").write_bytes(b"x")
    code, output = run(*again, "--overwrite")
    assert (code, "4 images in 1 shard in" in output, "1 failed" in output) == (1, True, True), output
    assert not any(photo.text_size for photo in open_shards(tmp_path / "shards", tmp_path).images)


def test_cache_text_and_latents(photo_folder: Path, tmp_path: Path) -> None:
    base = write_sd3_text(tmp_path / "base")
    tiny_vae(16).save_pretrained(base / "vae")
    for name in ("astronaut", "cat", "coffee", "more/rocket"):
        (tmp_path / "prompts" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "prompts" / f"{name}.txt").write_text(f"picture of {name}")
    common = ["-o", tmp_path / "cache", "--base", base, "--dtype", "fp32", "--device", "cpu"]
    fixed = [
        "--latents", "sd3_paper", "--set", "pairs.crops.size=64", "--set", "pairs.crops.fixed=2",
        "--latents-dtype", "fp32",
    ]  # fmt: skip
    command = ["data", "cache", photo_folder, *common, "--prompts", tmp_path / "prompts", *fixed]
    code, output = run(*command)
    assert code == 0, output
    assert "6 prompts in" in output  # the fixed and the empty one too
    assert "8 latents in" in output
    shards = tmp_path / "shards"
    run("data", "shard", photo_folder, "-o", shards, "--prompts", tmp_path / "prompts", "--min-side", 64)
    before = sorted((tmp_path / "cache").rglob("*.safetensors"))
    code, output = run("data", "cache", "--shards", shards, *common, *fixed)
    assert (code, "6 prompts in" in output, "8 latents in" in output) == (0, True, True), output
    assert sorted((tmp_path / "cache").rglob("*.safetensors")) == before
    code, output = run(*command, "--dtype", "bf16")
    assert (code, "this cache was made with dtype" in output) == (2, True)
    code, output = run(*command, "--latents-dtype", "bf16")
    assert (code, "this cache was made with precision" in output) == (2, True)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "no images were given"),
        (["--shards", "nowhere.tar"], "nowhere.tar: no such folder or shard"),
        (["--shards", "SHARDS", "--no-text"], "nothing to cache"),
        (["--shards", "SHARDS", "--prompts", "PHOTOS"], "--prompts has no effect"),
        (["--shards", "SHARDS,wieght=2"], "unknown option 'wieght=2'; known: limit, weight"),
        (["PHOTOS", "--latents", "sd3_paper"], "sd3_paper cuts fresh crops; set how many"),
        (["PHOTOS", "--latents", "mini_smoke", "--set", "pairs.crops.fixed=2"], "mini has no autoencoder"),
        (["PHOTOS", "--latents", "sd21", "--set", "pairs.crops.fixed=2", "--model", "sd3"], "leave out --model"),
    ],
)
def test_what_cannot_be_cached_is_refused(
    photo_folder: Path, tmp_path: Path, arguments: list[str], message: str
) -> None:
    (tmp_path / "shards").mkdir()
    places = {"PHOTOS": str(photo_folder), "SHARDS": str(tmp_path / "shards")}
    given = [re.sub("^(PHOTOS|SHARDS)", lambda name: places[name[0]], argument) for argument in arguments]
    code, output = run("data", "cache", *given, "-o", tmp_path / "cache", "--base", tmp_path)
    assert (code, message in output) == (2, True), output


def test_sources_with_mistakes_are_one_line(tmp_path: Path) -> None:
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    code, output = run("data", "shard", f"div2k:{tmp_path}", "-o", tmp_path / "out")
    assert (code, "does not look like div2k" in output) == (2, True)
    code, output = run("data", "shard", f"{tmp_path},colour=red", "-o", tmp_path / "out")
    assert (code, "known: limit, weight" in output) == (2, True)
