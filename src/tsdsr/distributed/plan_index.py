"""What is known about inputs and results while a run is planned: tables on the disk, so that memory stays flat."""

from __future__ import annotations

import itertools
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Any, TypeVar

from tsdsr.distributed.inputs import ArchiveInput

_T = TypeVar("_T")

ROWS_AT_A_TIME = 10_000
"""Rows that are in memory before they are written to a table."""

_TABLES = """
PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF; PRAGMA cache_size = -16384;
CREATE TABLE recorded (output TEXT PRIMARY KEY, input BLOB, stamp TEXT, size INT, hash TEXT, settings TEXT)
    WITHOUT ROWID;
CREATE TABLE planned (output TEXT PRIMARY KEY, input BLOB, settings TEXT) WITHOUT ROWID;
CREATE TABLE there (output TEXT PRIMARY KEY, size INT) WITHOUT ROWID;
CREATE TABLE inputs (number INTEGER PRIMARY KEY, url TEXT, output TEXT, size INT, stamp TEXT, error TEXT);
CREATE TABLE taken (name TEXT PRIMARY KEY, number INT) WITHOUT ROWID;
CREATE TABLE inside (output TEXT PRIMARY KEY) WITHOUT ROWID;
"""

_CANDIDATES = """
SELECT inputs.number, url, inputs.output, inputs.size, inputs.stamp, error, taken.number, inside.output, there.size,
    recorded.input, recorded.stamp, recorded.size, recorded.hash, recorded.settings, planned.input, planned.settings
FROM inputs
LEFT JOIN taken ON taken.name = folded(inputs.output)
LEFT JOIN inside ON inside.output = inputs.output
LEFT JOIN there ON there.output = inputs.output
LEFT JOIN recorded ON recorded.output = inputs.output
LEFT JOIN planned ON planned.output = inputs.output
ORDER BY inputs.number
"""


@dataclass(frozen=True)
class Recorded:
    """What earlier statuses say about a result.

    Attributes:
        same_input (bool): whether its input had the URL of this input.
        stamp, input_hash (str): of its input. settings (str): what it was made with. size (int): bytes of the result.
    """

    same_input: bool
    stamp: str
    size: int
    input_hash: str
    settings: str


@dataclass(frozen=True)
class Candidate:
    """An input, and everything that decides what becomes of it.

    Attributes:
        input (ArchiveInput): the input; ``relative`` is the name of its result.
        twin (str): URL of an earlier input with the same result; "" if there is none.
        over_input (bool): its result would replace an input.
        there (int | None): bytes of what stands at its result; None if nothing does.
        recorded (Recorded | None): what the last status of this result says.
        planned (str | None): hash of the settings with which an unfinished run was to make it from this input, where
            nothing stood before; None if there is no such run.
    """

    input: ArchiveInput
    twin: str
    over_input: bool
    there: int | None
    recorded: Recorded | None
    planned: str | None


class PlanIndex:
    """Tables of inputs, results, statuses and unfinished plans. Results are named by their path below the output.

    Args:
        folder (Path): a temporary folder.
        folded (callable): maps the name of a result to a text that names of one file have in common.
    """

    def __init__(self, folder: Path, folded: Callable[[str], str]) -> None:
        self._database = sqlite3.connect(folder / "plan.sqlite", isolation_level=None)
        self._database.executescript(_TABLES)
        self._database.create_function("folded", 1, folded, deterministic=True)
        self._inputs = 0

    def close(self) -> None:
        """Close the tables; they go with their folder."""
        self._database.close()

    def add_statuses(self, rows: Iterable[tuple[str, Mapping[str, Any]]]) -> None:
        """Add results that are complete, as (name, row of STATUS); a later row replaces an earlier one."""
        self._insert("INSERT OR REPLACE INTO recorded VALUES (?, ?, ?, ?, ?, ?)", (
            (name, _digest(row["input"]), row["stamp"], row["size"], row["input_hash"], row["settings"])
            for name, row in rows
        ))  # fmt: skip

    def add_planned(self, rows: Iterable[tuple[str, str, str]]) -> None:
        """Add what an unfinished run was to make where nothing stood: (name, URL of the input, hash of settings)."""
        self._insert("INSERT OR REPLACE INTO planned VALUES (?, ?, ?)", (
            (name, _digest(url), settings) for name, url, settings in rows
        ))  # fmt: skip

    def add_there(self, files: Iterable[tuple[str, int]]) -> None:
        """Add what stands at the output: (name, bytes)."""
        self._insert("INSERT OR REPLACE INTO there VALUES (?, ?)", files)

    def add_inputs(self, inputs: Iterable[tuple[ArchiveInput, str | None]]) -> None:
        """Add inputs whose ``relative`` is the name of their result, and their own name below the output, if any."""
        for group in _grouped(inputs):
            rows = [
                (number, each.url, each.relative, each.size, each.stamp, each.error)
                for number, (each, _) in enumerate(group, self._inputs)
            ]
            self._inputs += len(group)
            taken = ((name, number) for number, _, name, *_, error in rows if not error)
            inside = ((name,) for _, name in group if name is not None)
            self._insert("INSERT INTO inputs VALUES (?, ?, ?, ?, ?, ?)", rows)
            self._insert("INSERT OR IGNORE INTO taken VALUES (folded(?), ?)", taken)
            self._insert("INSERT OR IGNORE INTO inside VALUES (?)", inside)

    def is_result(self, name: str) -> bool:
        """Return whether a name is that of a result of an earlier run."""
        query = "SELECT 1 FROM recorded WHERE output = ? UNION SELECT 1 FROM planned WHERE output = ?"
        return self._database.execute(query, (name, name)).fetchone() is not None

    def candidates(self) -> Iterator[Candidate]:
        """Yield all inputs in their order with what is known about them."""
        for row in self._database.execute(_CANDIDATES):
            number, url, name, size, stamp, error, first, inside, there = row[:9]
            made_from, old_stamp, old_size, old_hash, settings, planned_input, planned = row[9:]
            digest = _digest(url)
            known = Recorded(made_from == digest, old_stamp, old_size, old_hash, settings) if settings else None
            yield Candidate(
                ArchiveInput(url, name, size, stamp, error),
                self._url(first) if first not in (None, number) else "",
                inside is not None,
                there,
                known,
                planned if planned_input == digest else None,
            )

    def _url(self, number: int) -> str:
        return str(self._database.execute("SELECT url FROM inputs WHERE number = ?", (number,)).fetchone()[0])

    def _insert(self, statement: str, rows: Iterable[tuple[Any, ...]]) -> None:
        for group in _grouped(rows):
            self._database.execute("BEGIN")
            self._database.executemany(statement, group)
            self._database.execute("COMMIT")


def _grouped(rows: Iterable[_T]) -> Iterator[list[_T]]:
    left = iter(rows)
    while group := list(itertools.islice(left, ROWS_AT_A_TIME)):
        yield group


def _digest(url: str) -> bytes:
    return blake2b(url.encode("utf-8", "backslashreplace"), digest_size=16).digest()
