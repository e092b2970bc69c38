"""``tsdsr study`` from folders to a report."""

from __future__ import annotations

import json
import sys
from contextlib import closing
from pathlib import Path

import pytest
from typer.testing import CliRunner

from tests.study.conftest import STEMS, TINTS
from tsdsr.cli import app
from tsdsr.study.definition import VOTES
from tsdsr.study.votes import Vote, VoteStore

runner = CliRunner()


@pytest.fixture
def arguments(folders: dict[str, Path], tmp_path: Path) -> list[str]:
    systems = [f"{name}={folders[name]}" for name in TINTS]
    return ["study", "create", str(tmp_path / "s"), *systems, "--lr", str(folders["lr"]), "--gt", str(folders["gt"])]


def test_from_folders_to_a_report(arguments: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "160")
    study = str(tmp_path / "s")
    result = runner.invoke(app, [*arguments, "--title", "A & B"])
    assert result.exit_code == 0, result.output
    assert "4 images, 3 systems" in result.output
    assert runner.invoke(app, ["study", "report", study]).output == "error: there are no votes yet\n"
    with closing(VoteStore(tmp_path / "s" / VOTES)) as store:
        for _ in range(6):
            session, _token = store.begin()
            for stem in STEMS:
                store.add(Vote(session, stem, tuple(TINTS), "alpha" if stem == "cat" else "gamma"))
    files = {kind: tmp_path / f"out.{kind}" for kind in ("json", "csv", "md")}
    result = runner.invoke(app, ["study", "export", study, "--csv", str(files["csv"]), "--json", str(files["json"])])
    assert result.exit_code == 0, result.output
    assert len(files["csv"].read_text().splitlines()) == 25
    assert json.loads(files["json"].read_text())["title"] == "A & B"
    result = runner.invoke(
        app, ["study", "report", study, "--json", str(files["json"]), "--markdown", str(files["md"])]
    )
    assert result.exit_code == 0, result.output
    assert "75.0" in result.output
    assert json.loads(files["json"].read_text())["ranking"][0]["system"] == "gamma"
    assert "| gamma | **75.0** [" in files["md"].read_text()


def test_mistakes_are_explained(arguments: list[str], tmp_path: Path) -> None:
    create, study = arguments, str(tmp_path / "s")
    for typed, message in (
        ([*create, "delta"], "'delta': give NAME=FOLDER"),
        ([*create, create[3]], "same name"),
        ([*create, "--shown", "4"], "2 to 3 of 3"),
        (["study", "serve", study], "make the study with"),
        (["study", "export", study], "--csv FILE or --json FILE"),
        (["study", "export", study, "--csv", "a.png"], "--csv a.png: is the name of a picture"),
        (["study", "report", study, "--json", "a.jpg"], "--json a.jpg: is the name of a picture"),
        (["study", "report", study], "study.json: not found"),
    ):
        result = runner.invoke(app, typed)
        assert result.exit_code == 2, result.output
        assert message in result.output
        assert "Traceback" not in result.output


def test_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    monkeypatch.delitem(sys.modules, "tsdsr.study.server", raising=False)
    result = runner.invoke(app, ["study", "serve", str(tmp_path)])
    assert result.exit_code == 2
    assert "pip install '.[study]'" in result.output


def test_outputs_are_checked_before_work(arguments: list[str], tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    bad = str(tmp_path / "file" / "x")
    result = runner.invoke(app, [*arguments[:2], bad, *arguments[3:]])
    assert (result.exit_code, "cannot be written" in result.output) == (2, True)
    assert runner.invoke(app, arguments).exit_code == 0
    for command, option in (("export", "--csv"), ("export", "--json"), ("report", "--json"), ("report", "--figure")):
        result = runner.invoke(app, ["study", command, str(tmp_path / "s"), option, bad])
        assert (result.exit_code, "cannot be written" in result.output) == (2, True), result.output


def test_the_report_is_readable_in_a_narrow_pipe(
    arguments: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    assert runner.invoke(app, arguments).exit_code == 0
    with closing(VoteStore(tmp_path / "s" / VOTES)) as store:
        session, _ = store.begin()
        for stem in STEMS:
            store.add(Vote(session, stem, tuple(TINTS), "alpha"))
    output = runner.invoke(app, ["study", "report", str(tmp_path / "s")]).output
    assert "…" not in output
    for text in ("chosen among all", "over the next", "100.0", *TINTS):
        assert text in output
