"""Study reports: the paper's approval rates from matching votes, tables, and the figure."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
from PIL import Image
from rich.console import Console

from tsdsr.errors import DatasetError
from tsdsr.study.approval import OVERALL, StudyReport, study_report
from tsdsr.study.definition import Study, StudyImage
from tsdsr.study.render import to_markdown, to_rich, write_figure
from tsdsr.study.votes import Vote

SYSTEMS = ("SinSR", "AddSR", "OSEDiff", "TSD-SR")
FIGURE_8 = {"Animals": 57.6, "Buildings": 70.0, "Characters": 84.4, "Human Faces": 68.8, "Vegetation": 65.2}
"""Approval of TSD-SR in section 4.3, %; 69.2 overall. 50 voters with five images a category give such shares."""

IMAGES = tuple(StudyImage(f"{name} {k}", name, "", "", ("",) * 4) for name in FIGURE_8 for k in range(5))
STUDY = Study("t", "seed", SYSTEMS, IMAGES, shown=4, per_voter=25)


@pytest.fixture(scope="module")
def report() -> StudyReport:
    """Votes of 50 sessions on 25 images that give the paper's rates; the others share the rest."""
    votes = []
    for name, rate in FIGURE_8.items():
        cells = [(session, f"{name} {k}") for k in range(5) for session in range(50)]
        ours = round(rate / 100 * len(cells))
        for n, (session, image) in enumerate(cells):
            votes.append(Vote(session, image, SYSTEMS, SYSTEMS[3] if n < ours else SYSTEMS[n % 3]))
    return study_report(STUDY, votes)


def test_figure_8(report: StudyReport) -> None:
    assert report.groups == (*FIGURE_8, OVERALL)
    for name, rate in FIGURE_8.items():
        assert 100 * report.approvals[name]["TSD-SR"].rate == pytest.approx(rate)
        assert sum(found.chosen for found in report.approvals[name].values()) == 250
    overall = report.approvals[OVERALL]["TSD-SR"]
    assert 100 * overall.rate == pytest.approx(69.2)
    assert overall.interval[0] < overall.rate < overall.interval[1]
    assert (report.voters, report.votes, report.images, report.by_session) == (50, 1250, 25, True)


def test_the_ranking_follows_the_votes(report: StudyReport) -> None:
    assert report.ranking[0].system == "TSD-SR"
    assert sum(row.value for row in report.ranking) == pytest.approx(1)
    assert report.ranking[0].value == pytest.approx((865 + 0.5) / (1250 + 2))  # all are shown: shares, with half votes
    first, second, last = report.ranking[0], report.ranking[1], report.ranking[-1]
    assert first.over_next == pytest.approx(first.value / (first.value + second.value))
    assert first.over_next_interval is not None
    assert first.over_next_interval[0] > 0.5
    assert last.over_next is last.over_next_interval is None


def test_incomplete_votes_are_reported() -> None:
    with pytest.raises(DatasetError, match="no votes yet"):
        study_report(STUDY, [])
    with pytest.raises(DatasetError, match="does not have: fish"):
        study_report(STUDY, [Vote(1, "fish", SYSTEMS, "AddSR")])
    votes = [Vote(k, "Animals 0", SYSTEMS[:2], "AddSR") for k in range(4)]
    found = study_report(STUDY, votes)
    assert found.groups == ("Animals", OVERALL)
    assert set(found.approvals[OVERALL]) == {"SinSR", "AddSR"}
    assert not found.by_session
    markdown = to_markdown(found)
    assert "n/a" in markdown
    assert "single votes resampled" in markdown
    one = study_report(STUDY, votes[:1])  # a single vote is a report too
    assert one.approvals[OVERALL]["AddSR"].interval == pytest.approx((0.2065, 1), abs=1e-4)


def test_tables(report: StudyReport) -> None:
    console = Console(width=140)
    with console.capture() as captured:
        console.print(to_rich(report))
    text = captured.get()
    for expected in ("57.6", "69.2", "Human Faces", "50 voters, 1250 votes on 25 images", "whole sessions"):
        assert expected in text
    lines = to_markdown(report).splitlines()
    assert lines[0] == "| approval rate, % | Animals | Buildings | Characters | Human Faces | Vegetation | Overall |"
    assert lines[5].startswith("| TSD-SR | **57.6** [")
    assert lines[9].startswith("| TSD-SR | 69.1 | [")


def test_files(report: StudyReport, tmp_path: Path) -> None:
    report.save(tmp_path / "r.json")
    data = json.loads((tmp_path / "r.json").read_text())
    assert data["approvals"]["Animals"]["TSD-SR"]["chosen"] == 144
    pytest.importorskip("matplotlib")
    write_figure(report, tmp_path / "out" / "r.png")
    with Image.open(tmp_path / "out" / "r.png") as picture:
        assert picture.format == "PNG"
        assert picture.width > picture.height


def test_names_that_look_like_formulas_are_drawn_as_they_are(report: StudyReport, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    names = {report.systems[0]: "a$\\frac$b", **{name: name for name in report.systems[1:]}}
    approvals = {g: {names[s]: found for s, found in rows.items()} for g, rows in report.approvals.items()}
    renamed = dataclasses.replace(report, systems=tuple(names.values()), approvals=approvals)
    write_figure(renamed, tmp_path / "r.png")
    assert (tmp_path / "r.png").stat().st_size > 1000
