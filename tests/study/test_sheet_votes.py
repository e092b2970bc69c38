"""Votes on blind sheets: the three forms of files, counts and intervals."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.study.test_cli import runner
from tsdsr.cli import app
from tsdsr.errors import DatasetError
from tsdsr.study.sheet_key import SheetKey, SheetRow
from tsdsr.study.sheet_votes import read_sheet_votes, sheet_report, to_markdown
from tsdsr.study.statistics import wilson


@pytest.fixture
def key(tmp_path: Path) -> SheetKey:
    """Ten rows; "new" stands in column 1 of the odd ones."""
    orders = (("new", "old"), ("old", "new"))
    rows = tuple(SheetRow(f"image{k}", "sheet-01.png", orders[k % 2], (0, 0, 9, 9)) for k in range(10))
    made = SheetKey(("new", "old"), 0, rows)
    made.save(tmp_path / "key.json")
    assert SheetKey.load(tmp_path / "key.json") == made
    return made


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("anna.txt", "# my votes\n1\n2\n-\n1\n\n"),
        ("anna.txt", "4, 1\n1 1\n2 2\n"),
        ("anna.csv", "row,choice\n1,1\n2,2\n3,\n4,1\n"),
        ("anna.csv", "row;choice\n1;1\n2;2\n3;\n4;1\n"),
        ("votes.tsv", "voter\trow\tchoice\nanna\t1\t1\nanna\t2\t2\nanna\t4\t1\n"),
        ("anna.json", '{"1": 1, "2": "2", "3": null, "4": 1}'),
        ("votes.json", '{"anna": {"1": 1, "2": 2, "4": 1}}'),
    ],
)
def test_every_form_of_votes_is_read(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_text(text)
    assert read_sheet_votes(tmp_path / name) == {"anna": {1: 1, 2: 2, 4: 1}}


def test_votes_are_counted_for_systems(key: SheetKey, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Anna always votes for "new", Ben always for column 1."""
    monkeypatch.setenv("COLUMNS", "120")
    (tmp_path / "anna.txt").write_text("1\n2\n" * 5)
    (tmp_path / "ben.txt").write_text("1\n" * 10)
    files = [str(tmp_path / name) for name in ("anna.txt", "ben.txt")]
    reports = {"--json": tmp_path / "r.json", "--markdown": tmp_path / "r.md"}
    options = [part for option, path in reports.items() for part in (option, str(path))]
    result = runner.invoke(app, ["study", "tally", str(tmp_path / "key.json"), *files, *options])
    assert result.exit_code == 0, result.output
    assert "on one side of 50 %: new is preferred" in result.output
    assert "Column 1 was chosen in 75 %" in result.output
    found = json.loads(reports["--json"].read_text())
    assert [row["chosen"] for row in found["voters"]] == [[10, 0], [5, 5]]
    assert [row["interval"] for row in found["voters"]] == [list(wilson(10, 10)), list(wilson(5, 10))]
    assert found["everybody"]["chosen"] == [15, 5]
    assert found["everybody"]["interval"] == list(wilson(15, 20))
    assert "| ben | 5 | 5 | 50.0 | [23.7, 76.3] |" in reports["--markdown"].read_text()


def test_a_leaning_to_one_column_cancels_in_the_mean_of_both(key: SheetKey, tmp_path: Path) -> None:
    """The voter sees "new" in column 1 three times and in column 2 once, and chooses column 1 but once."""
    (tmp_path / "anna.txt").write_text("1 1\n3 1\n5 2\n2 1\n")
    report = sheet_report(key, [tmp_path / "anna.txt"])
    assert report.by_column == ((2, 3), (0, 1))
    assert report.balanced_share == pytest.approx(1 / 3)
    assert (
        "new won 2 of the 3 votes where it stood there, and 0 of 1 in column 2; the mean of the two shares, 33.3 %"
        in to_markdown(report)
    )
    (tmp_path / "anna.txt").write_text("1 1\n3 1\n")
    alone = sheet_report(key, [tmp_path / "anna.txt"])
    assert alone.balanced_share is None
    assert "mean of the two" not in to_markdown(alone)
    assert "new stood in one column only: a preference and a leaning cannot be told apart" in to_markdown(alone)


@pytest.fixture
def twofold_key(tmp_path: Path) -> SheetKey:
    """Four images, each in two rows; "new" stands in column 1 of the first four rows."""
    orders = (("new", "old"), ("old", "new"))
    return SheetKey(
        ("new", "old"), 0, tuple(SheetRow(f"image{k % 4}", "s.png", orders[k // 4], (0, 0, 9, 9)) for k in range(8))
    )


def test_votes_in_both_orders_tell_a_choice_from_a_leaning(twofold_key: SheetKey, tmp_path: Path) -> None:
    """The voter chooses "new" twice on two images, "old" twice on one, and column 1 twice on one."""
    (tmp_path / "anna.txt").write_text("1\n1\n2\n1\n2\n2\n1\n1\n")
    report = sheet_report(twofold_key, [tmp_path / "anna.txt"])
    assert (report.images, report.both_orders) == (4, (2, 1, 1))
    assert report.everybody.chosen == (5, 3)
    assert report.everybody.interval == wilson(2.5, 4)
    assert "two votes of a voter on an image in both orders count as one" in to_markdown(report)
    text = to_markdown(report)
    assert "Of 4 pairs of votes on an image in both orders, 1 chose one column twice" in text
    assert "went to new 2 and to old 1 times: 66.7 % for new [20.8, 93.9]" in text


@pytest.mark.parametrize(("votes", "interval"), [("11112221", (0.3958, 0.9868)), ("12222112", (0.0919, 0.7806))])
def test_half_votes_are_not_rounded(
    twofold_key: SheetKey, tmp_path: Path, votes: str, interval: tuple[float, float]
) -> None:
    """Seven and three of 8 votes are 3.5 and 1.5 of four independent ones."""
    (tmp_path / "anna.txt").write_text("\n".join(votes))
    assert sheet_report(twofold_key, [tmp_path / "anna.txt"]).everybody.interval == pytest.approx(interval, abs=1e-4)


def test_two_votes_on_an_image_count_as_one_for_many_voters_too(twofold_key: SheetKey, tmp_path: Path) -> None:
    votes = {f"voter{k}": {str(row + 1): 1 if row < 4 else 2 for row in range(8)} for k in range(5)}
    (tmp_path / "votes.json").write_text(json.dumps(votes))
    report = sheet_report(twofold_key, [tmp_path / "votes.json"])
    assert (report.by_session, report.everybody.interval) == (True, wilson(20, 20))


def test_missing_votes_are_said(key: SheetKey, tmp_path: Path) -> None:
    (tmp_path / "anna.txt").write_text("1\n2\n1\n")
    text = to_markdown(sheet_report(key, [tmp_path / "anna.txt"]))
    assert "The sheets have 10 rows. Votes of those with fewer: anna 3." in text


def test_reports_do_not_replace_the_key_or_votes(key: SheetKey, tmp_path: Path) -> None:
    (tmp_path / "anna.txt").write_text("1\n" * 10)
    for option, name in (("--json", "key.json"), ("--markdown", "anna.txt")):
        before = (tmp_path / name).read_bytes()
        typed = ["study", "tally", str(tmp_path / "key.json"), str(tmp_path / "anna.txt"), option, str(tmp_path / name)]
        result = runner.invoke(app, typed)
        assert result.exit_code == 2
        assert "is the key or a file of votes" in " ".join(result.output.split())
        assert (tmp_path / name).read_bytes() == before


def test_a_voter_who_only_leans_decides_nothing(twofold_key: SheetKey, tmp_path: Path) -> None:
    (tmp_path / "anna.txt").write_text("1\n" * 8)
    (tmp_path / "ben.txt").write_text("2\n")
    report = sheet_report(twofold_key, [tmp_path / "anna.txt", tmp_path / "ben.txt"])
    assert report.both_orders == (0, 0, 4)
    assert "went to new 0 and to old 0 times." in to_markdown(report)


def test_one_voter_has_one_row(key: SheetKey, tmp_path: Path) -> None:
    (tmp_path / "anna.txt").write_text("1\n2\n-\n1\n2\n1\n1\n")
    text = to_markdown(sheet_report(key, [tmp_path / "anna.txt"]))
    assert "| anna | 3 | 3 | 50.0 | [18.8, 81.2] |" in text
    assert "all voters" not in text
    assert "both orders" not in text
    assert "contains 50 %: these votes do not tell new and old apart" in text


def test_five_voters_are_resampled_whole(key: SheetKey, tmp_path: Path) -> None:
    """Voters who agree with themselves but not with each other make the interval wider than single votes do."""
    votes = {f"voter{k}": {str(row + 1): 1 + (row + k) % 2 for row in range(10)} for k in range(6)}
    (tmp_path / "votes.json").write_text(json.dumps(votes))
    report = sheet_report(key, [tmp_path / "votes.json"])
    assert (report.by_session, report.everybody.chosen) == (True, (30, 30))
    low, high = wilson(30, 60)
    assert report.everybody.interval[0] < low - 0.1
    assert report.everybody.interval[1] > high + 0.1


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.txt", "1\n3\n", "row '2', choice '3'"),
        ("a.txt", "1 1\n1 2\n", "two votes of a on row 1"),
        ("a.txt", "1 1 1\n", "line 1: 1 1 1"),
        ("a.txt", "11 1\n", "rows 1 to 10"),
        ("a.txt", "-\n", "no votes yet"),
        ("a.csv", "1,1\n", "columns row and choice"),
        ("a.json", "[1]", "must be an object"),
        ("a.json", "{", "votes cannot be read"),
        ("a.json", '{"1": 1, "1": 2}', "'1' stands there twice"),
        ("a.json", "[" * 100_000, "votes cannot be read"),
        ("a.txt", "1" * 5000 + " 1\n", "a row is a number"),
        ("none.txt", None, "votes cannot be read"),
    ],
)
def test_votes_that_cannot_count_are_refused(
    key: SheetKey, tmp_path: Path, name: str, text: str | None, message: str
) -> None:
    if text is not None:
        (tmp_path / name).write_text(text)
    with pytest.raises(DatasetError, match=message):
        sheet_report(key, [tmp_path / name])


def test_a_voter_counts_once(key: SheetKey, tmp_path: Path) -> None:
    (tmp_path / "anna.txt").write_text("1\n")
    with pytest.raises(DatasetError, match="'anna' is in another file"):
        sheet_report(key, [tmp_path / "anna.txt", tmp_path / "anna.txt"])
