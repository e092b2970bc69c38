"""``tsdsr evaluate`` and ``tsdsr compare``, with a stand-in for pyiqa."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
from PIL import Image
from typer.testing import CliRunner

from tsdsr.cli import app
from tsdsr.cli.evaluate import open_system
from tsdsr.errors import InvalidInputError, ModelNotFoundError

runner = CliRunner()


pytestmark = pytest.mark.usefixtures("rgb_psnr")


@pytest.fixture
def pairs(tmp_path: Path, photo: Image.Image) -> tuple[Path, Path]:
    """Two crops of a photograph, 16 and 64 pixels."""
    for k in range(2):
        crop = photo.crop((150 + 64 * k, 60, 214 + 64 * k, 124))
        for folder, size in (("lr", 16), ("hr", 64)):
            (tmp_path / folder).mkdir(exist_ok=True)
            crop.resize((size, size), Image.Resampling.BICUBIC).save(tmp_path / folder / f"{k}_{folder.upper()}.png")
    return tmp_path / "lr", tmp_path / "hr"


def test_compare_then_evaluate(pairs: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    lr, hr = map(str, pairs)
    out = tmp_path / "out"
    common = ["--gt", hr, "--metrics", "psnr"]
    arguments = ["compare", "mini", "bicubic", f"plain={hr}", "--lr", lr, "-o", str(out), "--runs", "1", *common]
    stored = {"--json": "c.json", "--markdown": "c.md", "--latex": "c.tex", "--csv": "c.csv"}
    written = [str(part) for option, name in stored.items() for part in (option, tmp_path / name)]
    result = runner.invoke(app, [*arguments, *written])
    assert result.exit_code == 0, result.output
    assert "s/image" in result.output
    systems = {s["name"]: s for s in json.loads((tmp_path / "c.json").read_text())["systems"]}
    assert list(systems) == ["mini", "bicubic", "plain"]
    assert systems["plain"]["scores"]["psnr"]["mean"] == "inf"
    cost = systems["mini"]["cost"]
    assert cost["parameters"] == 8_146_848
    assert cost["seconds_network"] > 0  # timed in a run of its own: no bound holds on a busy machine
    assert (tmp_path / "c.md").read_text().startswith("|")
    assert (tmp_path / "c.tex").read_text().startswith(r"\begin{tabular}")
    table = list(csv.DictReader((tmp_path / "c.csv").read_text().splitlines()))
    assert [(row["system"], row["source"]) for row in table] == [(name, "measured") for name in systems]
    assert float(table[1]["psnr"]) == pytest.approx(systems["bicubic"]["scores"]["psnr"]["mean"])

    result = runner.invoke(
        app,
        [
            "evaluate",
            "--pred",
            str(out / "mini"),
            "--compare",
            "RealSR",
            *common,
            "--lr",
            lr,
            "--html",
            str(tmp_path / "page.html"),
        ],
    )
    assert result.exit_code == 0, result.output
    assert f"{systems['mini']['scores']['psnr']['mean']:.2f}" in result.output
    assert "TSD-SR (published)" in result.output
    page = (tmp_path / "page.html").read_text()
    assert all(f'id="picture-1-{key}"' in page for key in ("0", "gt", "lr", "bicubic"))


def test_errors_are_one_line(pairs: tuple[Path, Path], tmp_path: Path) -> None:
    lr, hr = map(str, pairs)
    for arguments, message in (
        (["--pred", lr, "--gt", hr, "--metrics", "psnr"], "2 of 2 pairs differ in size"),
        (["--pred", lr, "--metrics", "psnr"], "give --gt"),
        (["--pred", lr, "--gt", hr, "--metrics", "beauty"], "unknown metrics beauty"),
        (["--pred", str(tmp_path / "none"), "--gt", hr], "no such folder"),
        (["--pred", hr, "--gt", hr, "--metrics", "psnr", "--compare", "set5"], "no published figures for 'set5'"),
    ):
        result = runner.invoke(app, ["evaluate", *arguments])
        assert result.exit_code == 2, result.output
        assert message in result.output
        assert "Traceback" not in result.output


def test_systems_by_what_is_typed(tmp_path: Path) -> None:
    assert open_system("lanczos", 4, "cpu", "fp32").name == "lanczos"
    named = open_system(f"theirs={tmp_path}", 4, "cpu", "fp32")
    assert (named.name, named.folder) == ("theirs", tmp_path)
    assert open_system("mini", 4, "cpu", "fp32").network is not None
    for wrong in ("=x", "x=", ""):
        with pytest.raises(InvalidInputError, match="NAME=SYSTEM"):
            open_system(wrong, 4, "cpu", "fp32")
    with pytest.raises(ModelNotFoundError):
        open_system(str(tmp_path / "nowhere"), 4, "cpu", "fp32")
