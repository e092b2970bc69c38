"""Votes on blind sheets: reading them, and how often each system was chosen."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tsdsr.errors import DatasetError
from tsdsr.evaluation.terminal import FittedTable, Lines, printable
from tsdsr.files import StrPath, write_text
from tsdsr.study.render import between
from tsdsr.study.sheet_key import SheetKey
from tsdsr.study.statistics import MIN_SESSIONS, Interval, approval_interval, tally, wilson
from tsdsr.study.votes import Vote
from tsdsr.wording import counted

if TYPE_CHECKING:
    from rich.console import Group

EVERYBODY = "all voters"
NO_VOTE = ("", "-")
"""Answers that are no vote."""


@dataclass(frozen=True)
class Wins:
    """Choices of one voter, or of all.

    Attributes:
        voter (str): name of the voter, or :data:`EVERYBODY`.
        chosen (tuple of int): how often each of the two systems was chosen.
        share (float): share of the first system.
        interval (tuple): 95 % interval of ``share``: Wilson's, or for five voters or more :func:`approval_interval`.
            The two votes of a voter on an image shown in both orders count as one.
    """

    voter: str
    chosen: tuple[int, int]
    share: float
    interval: Interval


@dataclass(frozen=True)
class SheetReport:
    """Results of votes on sheets.

    Attributes:
        systems (tuple of str): the two systems.
        rows (int): number of rows on the sheets.
        images (int): number of images voted on.
        voters (tuple of Wins): results of each voter.
        everybody (Wins): results of all votes.
        left_share (float): share of votes for column 1.
        by_column (tuple): for columns 1 and 2, how often the first system was chosen and how often it stood there.
        by_session (bool): whether the interval of all votes resamples voters instead of single votes.
        both_orders (tuple): of the images that a voter saw in both orders, how often the first system was chosen twice,
            the second twice, and each once, that is, the same column.
    """

    systems: tuple[str, str]
    rows: int
    images: int
    voters: tuple[Wins, ...]
    everybody: Wins
    left_share: float
    by_column: tuple[tuple[int, int], tuple[int, int]]
    by_session: bool
    both_orders: tuple[int, int, int]

    @property
    def balanced_share(self) -> float | None:
        """Mean of the first system's shares in both columns, in which a leaning cancels; None without votes on one."""
        if not all(shown for _, shown in self.by_column):
            return None
        return sum(chosen / shown for chosen, shown in self.by_column) / 2

    def save(self, path: Path) -> None:
        """Write the report as JSON. The write is atomic."""
        data = dataclasses.asdict(self) | {"balanced_share": self.balanced_share}
        write_text(path, json.dumps(data, indent=1, ensure_ascii=False) + "\n")


def sheet_report(key: SheetKey, files: Sequence[StrPath]) -> SheetReport:
    """Count the votes of some files; see :func:`read_sheet_votes`.

    Raises:
        DatasetError: There are no votes, one cannot be read, is for a row that the sheets do not have, or a voter
            appears in two files.
        MissingDependencyError: scipy is not installed.
    """
    voters: dict[str, list[Vote]] = {}
    for path in files:
        for voter, choices in read_sheet_votes(path).items():
            if voter in voters:
                raise DatasetError(
                    f"{path}: voter {voter!r} is in another file as well; each voter has one set of votes"
                )
            voters[voter] = [_vote(key, len(voters), row, choice, path) for row, choice in choices.items()]
    votes = [vote for some in voters.values() for vote in some]
    if not votes:
        raise DatasetError("there are no votes yet")
    by_session = sum(map(bool, voters.values())) >= MIN_SESSIONS
    first, second = key.systems
    found = [_wins(voter, some, key.systems) for voter, some in voters.items() if some]
    everybody = _wins(EVERYBODY, votes, key.systems)
    if by_session:
        resampled = approval_interval(tally(votes, key.systems, by_session=True), 0)
        low, high = everybody.interval
        everybody = dataclasses.replace(everybody, interval=(min(low, resampled[0]), max(high, resampled[1])))
    left = sum(vote.position == 1 for vote in votes) / len(votes)
    images = len({vote.image for vote in votes})
    columns = (_in_column(votes, first, 1), _in_column(votes, first, 2))
    return SheetReport(
        (first, second),
        len(key.rows),
        images,
        tuple(found),
        everybody,
        left,
        columns,
        by_session,
        _in_both_orders(votes, key.systems),
    )


def _in_column(votes: Sequence[Vote], system: str, column: int) -> tuple[int, int]:
    """How often a system was chosen where it stood in a column, and how often it stood there."""
    there = [vote for vote in votes if vote.shown[column - 1] == system]
    return sum(vote.choice == system for vote in there), len(there)


def _in_both_orders(votes: Sequence[Vote], systems: tuple[str, str]) -> tuple[int, int, int]:
    """Count images that a voter saw in both orders by who was chosen: the first twice, the second twice, each once."""
    seen: dict[tuple[int, str], dict[tuple[str, ...], str]] = {}
    for vote in votes:
        seen.setdefault((vote.session, vote.image), {})[vote.shown] = vote.choice
    chosen = [list(by_order.values()) for by_order in seen.values() if len(by_order) == len(systems)]
    first, second = (sum(choices == [name, name] for choices in chosen) for name in systems)
    return first, second, len(chosen) - first - second


def _vote(key: SheetKey, session: int, row: int, choice: int, path: StrPath) -> Vote:
    if not 1 <= row <= len(key.rows):
        raise DatasetError(f"{path}: votes on row {row}; the sheets of this key have rows 1 to {len(key.rows)}")
    shown = key.rows[row - 1]
    return Vote(session, shown.image, shown.order, shown.order[choice - 1])


def _wins(voter: str, votes: Sequence[Vote], systems: tuple[str, str]) -> Wins:
    first, second = (sum(vote.choice == name for vote in votes) for name in systems)
    share, independent = first / len(votes), len({(vote.session, vote.image) for vote in votes})
    return Wins(voter, (first, second), share, wilson(share * independent, independent))


def read_sheet_votes(path: StrPath) -> dict[str, dict[int, int]]:
    """Read a file of votes: voter → number of the row → 1 or 2.

    Three forms, told apart by the suffix:

    - ``.csv`` (with commas or semicolons) and ``.tsv``: columns ``row`` and ``choice``, and ``voter`` where the file
      has several voters;
    - ``.json``: ``{"1": 2, "2": 1}``, or such an object for each voter, ``{"anna": {"1": 2}}``;
    - anything else: a line for each row, in order, with 1 or 2, or with two numbers, the row and the choice. Lines
      that begin with ``#`` do not count.

    ``-``, null or nothing is no vote. A file without names has one voter, who is called as the file is.

    Raises:
        DatasetError: The file cannot be read, a choice is neither 1 nor 2, or a row appears twice.
    """
    path = Path(path)
    readers = {".csv": _from_table, ".tsv": _from_table, ".json": _from_json}
    try:
        text = path.read_text(encoding="utf-8-sig")
        cells = list(readers.get(path.suffix.lower(), _from_lines)(text, path))
    except (OSError, ValueError, RecursionError, csv.Error) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise DatasetError(f"{path}: votes cannot be read ({reason})") from error
    found: dict[str, dict[int, int]] = {}
    for voter, row, choice in cells:
        choices = found.setdefault(printable(voter), {})
        if choice in NO_VOTE:
            continue
        if not (row.isdecimal() and len(row) < 10) or choice not in ("1", "2"):
            raise DatasetError(f"{path}: row {row!r}, choice {choice!r}; a row is a number, a choice 1 or 2")
        if int(row) in choices:
            raise DatasetError(f"{path}: two votes of {voter} on row {row}")
        choices[int(row)] = int(choice)
    return found


Cells = Iterator[tuple[str, str, str]]


def _from_lines(text: str, path: Path) -> Cells:
    lines = [line.split() for line in text.replace(",", " ").splitlines() if not line.lstrip().startswith("#")]
    while lines and not lines[-1]:
        lines.pop()
    for number, words in enumerate(lines, 1):
        if len(words) > 2:
            raise ValueError(f"line {number}: {' '.join(words)}; give a choice, or a row and a choice")
        yield path.stem, words[0] if len(words) == 2 else str(number), words[-1] if words else ""


def _from_table(text: str, path: Path) -> Cells:
    head = text.partition("\n")[0]
    comma = ";" if ";" in head and "," not in head else ","  # spreadsheets write semicolons where a comma is a point
    rows = csv.DictReader(io.StringIO(text), delimiter="\t" if path.suffix.lower() == ".tsv" else comma)
    if not {"row", "choice"} <= set(rows.fieldnames or ()):
        raise ValueError("the first line must name the columns row and choice")
    for row in rows:
        yield ((row.get("voter") or path.stem).strip(), (row["row"] or "").strip(), (row["choice"] or "").strip())


def _from_json(text: str, path: Path) -> Cells:
    data: Any = json.loads(text, object_pairs_hook=_without_repetition)
    if not isinstance(data, dict):
        raise ValueError("it must be an object")
    voters: Mapping[str, Any] = data if all(isinstance(value, dict) for value in data.values()) else {path.stem: data}
    for voter, choices in voters.items():
        for row, choice in choices.items():
            yield voter, row, "" if choice is None else str(choice)


def _without_repetition(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in pairs:
        if name in found:
            raise ValueError(f"{name!r} stands there twice")
        found[name] = value
    return found


def to_rich(report: SheetReport) -> Group:
    """Render a report for the terminal."""
    from rich.console import Group
    from rich.markup import escape

    rows = [[escape(cell) for cell in row] for row in _cells(report)]
    table = FittedTable(rows[0], rows[1:], title="Votes", sections=[len(report.voters)])
    return Group(table, Lines(_notes(report)))


def to_markdown(report: SheetReport) -> str:
    """Render the table and the notes as Markdown."""
    head, *rows = _cells(report)
    lines = [head, ["---"] + ["---:"] * (len(head) - 1), *rows]
    table = "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)
    return "\n\n".join([table, *_notes(report)])


def _cells(report: SheetReport) -> list[list[str]]:
    first, second = report.systems
    rows = [["", f"for {first}", f"for {second}", f"{first}, %", "95 % interval"]]
    for wins in (*report.voters, *([report.everybody] if len(report.voters) > 1 else [])):
        rows.append([wins.voter, *map(str, wins.chosen), f"{100 * wins.share:.1f}", between(wins.interval)])
    return rows


def _notes(report: SheetReport) -> list[str]:
    low, high = report.everybody.interval
    first, second = report.systems
    alone = len(report.voters) == 1
    whose = "The interval" if alone else "The interval of all voters"
    if low <= 0.5 <= high:
        verdict = f"{whose} contains 50 %: these votes do not tell {first} and {second} apart."
    else:
        verdict = f"{whose} lies on one side of 50 %: {first if low > 0.5 else second} is preferred."
    if report.by_session:
        how = "Intervals are Wilson's; for all voters, widened by resampling whole voters."
    else:
        limit = "" if alone else "; that of all voters is too narrow if the votes of one voter are alike"
        how = f"Intervals are Wilson's, for independent votes{limit}."
    if sum(report.both_orders):
        how += " The two votes of a voter on an image in both orders count as one."
    votes = sum(report.everybody.chosen)
    return [
        verdict,
        f"{counted(len(report.voters), 'voter')}, {counted(votes, 'vote')} on {counted(report.images, 'image')}. "
        f"Column 1 was chosen in {100 * report.left_share:.0f} %.{_leaning(report)}",
        *_missing(report),
        *_both_orders(report),
        how,
    ]


def _missing(report: SheetReport) -> list[str]:
    """Which voters did not vote on every row: a line that is left out by mistake shifts all votes after it."""
    short = [f"{wins.voter} {sum(wins.chosen)}" for wins in report.voters if sum(wins.chosen) < report.rows]
    return [f"The sheets have {counted(report.rows, 'row')}. Votes of those with fewer: {', '.join(short)}."] * bool(
        short
    )


def _both_orders(report: SheetReport) -> list[str]:
    """What the votes on images in both orders say."""
    first, second, each = report.both_orders
    if not first + second + each:
        return []
    one, two = report.systems
    low, high = (100 * bound for bound in wilson(first, first + second)) if first + second else (0.0, 100.0)
    decided = f": {100 * first / (first + second):.1f} % for {one} [{low:.1f}, {high:.1f}]" if first + second else ""
    return [
        f"Of {counted(first + second + each, 'pair')} of votes on an image in both orders, {each} chose one column "
        f"twice, which says nothing of the systems. The others went to {one} {first} and to {two} {second} "
        f"times{decided}."
    ]


def _leaning(report: SheetReport) -> str:
    """What a leaning of the voters to one column does to the first system's share."""
    share = report.balanced_share
    if share is None:
        first = report.systems[0]
        return f" In these rows, {first} stood in one column only: a preference and a leaning cannot be told apart."
    (one, shown_one), (two, shown_two) = report.by_column
    return (
        f" {report.systems[0]} won {one} of the {shown_one} votes where it stood there, and {two} of {shown_two} in "
        f"column 2; the mean of the two shares, {100 * share:.1f} %, is free of a leaning to one column."
    )
