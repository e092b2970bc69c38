# ruff: noqa: RUF001 - pages have multiplication signs
"""Every figure of the documentation has a source and agrees with it; every picture names the script that makes it."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest

from tests.docs import figure_sources
from tests.docs.figures import ROOT, Figure, Value, figures_of, pages, sources_of

pytest.importorskip("tomllib", reason="Python 3.10 cannot read records")


FIXTURE = """title = "a run"
script = "Makefile"
command = "make"
hardware = "one core"
versions = { torch = "2.0" }
recorded = "here"

[values]
total_s = [0.343, 61.2]
votes = ["18 of 30"]
size = { mini_MB = 16.31, lpips = 0.2578 }
plain = 4.36
"""


HELP = (
    "Correct the page or the record in benchmarks/records, or name a source in a comment <!-- figures: … --> above; "
    "docs/contributing/documentation.md says how."
)


def test_every_figure_has_a_source_that_agrees() -> None:
    wrong = [
        f"{figure.page}:{figure.line}: {figure} {amiss(figure)}"
        for page in pages()
        for figure in figures_of(page)
        if not figure.found_in
    ]
    assert wrong == [], "\n" + "\n".join([*wrong, HELP])


def amiss(figure: Figure) -> str:
    """What is wrong with a figure that is not found."""
    return f"is not in {', '.join(figure.source.names) or 'the settings'}" if figure.source else "has no source"


def test_every_record_is_complete_and_used() -> None:
    used = {name.partition(".")[0] for page in pages() for name in sources_of(page)}
    records = figure_sources.record_names()
    assert [fault for name in records for fault in figure_sources.faults_of_record(name)] == []
    assert [name for name in records if name not in used] == []


def test_every_picture_names_the_script_that_makes_it() -> None:
    """The paragraph below a picture names a script, and the script names the file."""
    wrong = []
    for page in pages():
        for name, caption in re.findall(
            r"!\[[^\]]*\]\(([^)\s]+)\)\s*\n\s*\n(.*?)(?:\n\s*\n|\Z)", page.read_text(), re.DOTALL
        ):
            scripts = [ROOT / script for script in re.findall(r"`(?:python )?([\w/]+\.py)`", caption)]
            if not any(script.is_file() and Path(name).stem in script.read_text() for script in scripts):
                wrong.append(f"{page.name}: {name}")
    assert wrong == []


@pytest.fixture
def check(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Return the figures of a text that its source does not have; the record `run` is :data:`FIXTURE`."""
    (tmp_path / "run.toml").write_text(FIXTURE)
    monkeypatch.setattr(figure_sources, "RECORDS", tmp_path)
    figure_sources.values_of.cache_clear()
    figure_sources.read_record.cache_clear()

    def found(text: str) -> list[str]:
        page = tmp_path / "page.md"
        page.write_text(text)
        return [f"{figure.line}: {figure}" for figure in figures_of(page) if not figure.found_in]

    yield found
    figure_sources.values_of.cache_clear()
    figure_sources.read_record.cache_clear()


@pytest.mark.parametrize(
    "right",
    [
        "It takes .34 s, or 343 ms.",
        "It takes **0.34 s**, at most 61 s (1.02 minutes).",
        "The model has 16 MB; LPIPS is .258.",
        "It won 18 of 30 votes.",
        "| a | LPIPS |\n|---|---|\n| mini | .2578 |",
        "| a | time, ms |\n|---|---|\n| mini | 343 |",
        "| a | b |\n|---|---|\n| x | 4.36 |",
        "Version 2.14.1, 128×128 pixels, in 2026, `0.99 s`, [ten](a.md#99-s).\n\n```text\n0.99 s\n```",
    ],
)
def test_right_figures_pass(check, right: str) -> None:
    assert check(f"<!-- figures: run -->\n\n{right}\n") == []


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ("It takes .35 s.", ".35 s"),
        ("It takes 0.3 to 0.35\ns.", "0.35 s"),
        ("It takes 343 s.", "343 s"),
        ("It takes 344 ms.", "344 ms"),
        ("The model has 17 MB.", "17 MB"),
        ("It has 0.343 GB.", "0.343 GB"),
        ("It won 18 of 31 votes.", "18 of 31 votes"),
        ("It won 17 and 18 of 30 votes.", "17 of 30 votes"),
        ("LPIPS is .2579.", ".2579"),
        ("| a | LPIPS |\n|---|---|\n| mini | .2579 |", ".2579"),
        ("| a | time, s |\n|---|---|\n| mini | 343 |", "343 s"),
        ("It is 4.36 times as fast.", "4.36 times"),
        ("- It is 13× as fast", "13 times"),
        ("5 % of it", "5 percent"),
        ("It falls from 4.36 to 4.35, on average.", "4.35"),
        ("| a | pictures |\n|---|---|\n| mini | 37 |", "37"),
    ],
)
def test_planted_wrong_figures_are_found(check, wrong: str, named: str) -> None:
    assert [text.partition(": ")[2] for text in check(f"<!-- figures: run -->\n\n{wrong}\n")] == [named]


def test_a_source_holds_until_the_next_heading_or_comment(check) -> None:
    text = "<!-- figures: run -->\n\n.34 s\n\n## Next\n\n.34 s\n\n<!-- figures: none (an example) -->\n\n.35 s\n"
    assert check(text) == ["7: .34 s"]
    assert check(text.replace("figures:", "figures of this page:", 1)) == []


def test_a_key_of_a_record_is_a_source_of_its_own(check) -> None:
    text = ".34 s and 16 MB\n"
    assert check(f"<!-- figures: run.total_s -->\n\n{text}") == ["3: 16 MB"]
    with pytest.raises(LookupError, match=r"no values\.total_ms"):
        check(f"<!-- figures: run.total_ms -->\n\n{text}")


def test_settings_are_named_one_by_one(check) -> None:
    assert check("<!-- figures: run; settings: 30 s; 24 GB -->\n\n30 s, 24 GB, 25 GB, .34 s\n") == ["3: 25 GB"]


def test_none_needs_a_reason_and_records_must_exist(check) -> None:
    with pytest.raises(ValueError, match="no reason"):
        check("<!-- figures: none -->\n\n30 s\n")
    with pytest.raises(LookupError, match=r"no record lost\.toml"):
        check("<!-- figures: lost -->\n\n30 s\n")


def test_an_incomplete_record_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(figure_sources, "RECORDS", tmp_path)
    text = FIXTURE.replace('hardware = "one core"\n', "").replace('"Makefile"', '"benchmarks/gone.py"')
    (tmp_path / "incomplete.toml").write_text(text)
    assert figure_sources.faults_of_record("incomplete") == [
        "incomplete: no hardware",
        "incomplete: no file benchmarks/gone.py",
    ]


def test_the_code_is_a_source() -> None:
    assert any(
        value.unit == "GFLOP" and round(float(value.number), 1) == 52.2
        for value in figure_sources.values_of("code.mini")
    )
    assert Value(24.81) in figure_sources.values_of("published.1")


def test_constants_are_sources(check) -> None:
    text = "200 MB, 3600 s, 1 h, 150 MB and 24 million pixels"
    source = "tsdsr.serving.settings:ServeSettings, tsdsr.serving.base64_pictures:MOST_JSON_BYTES"
    assert check(f"<!-- figures: {source} -->\n\n{text}\n") == ["3: 24 M"]
    assert check(f"<!-- figures: {source}, integrations/space/app.py:MAX_INPUT_PIXELS -->\n\n{text}\n") == []


def test_most_figures_of_the_pages_would_fail_if_they_were_wrong() -> None:
    """Each figure a tenth larger: a source with many values, or one shown with one digit, may still have that."""
    wrong = [
        replace(figure, text=f"{1.1 * float(figure.text):.{len(figure.text.partition('.')[2])}f}")
        for page in pages()
        for figure in figures_of(page)
        if re.fullmatch(r"\d*\.\d+|\d{2,}", figure.text) and figure.found_in not in ("setting", "")
    ]
    assert sum(not figure.found_in for figure in wrong) > 0.8 * len(wrong) > 800
