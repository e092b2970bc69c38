"""The folder of a run beside its results: settings, plan and statuses, written part by part.

::

    DST/.tsdsr-runs/<UTC time>-<random>/
      settings.json          what the results are made with, by format
      plan-00000.parquet …   rows of PLAN; a row group is a batch
      status-00000.parquet … rows of STATUS, as they come
      finished.json          counts; only if every row of the plan has a status
"""

from __future__ import annotations

import json
import secrets
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from tsdsr.distributed.records import SCHEMAS, STATUS, as_table
from tsdsr.errors import FileReadError
from tsdsr.remote_files import join_url, list_files, read_bytes, write_file
from tsdsr.wording import first_line

RUNS = ".tsdsr-runs"
"""Name of the folder of all runs in the folder of the results."""

MOST_ROWS, MOST_SECONDS = 10_000, 15.0
"""A part of the statuses is written when it has so many rows, or is so old."""

_SETTINGS, _FINISHED = "settings.json", "finished.json"


class RunFolder:
    """The folder of the run that is in work. One process writes it.

    Attributes:
        url (str): its URL or path.
    """

    def __init__(self, output: str, settings: Mapping[str, Any]) -> None:
        """Create the folder.

        Args:
            output (str): folder of the results.
            settings (mapping): content of ``settings.json``.

        Raises:
            FileWriteError, MissingDependencyError: see :func:`~tsdsr.remote_files.write_file`.
        """
        name = f"{datetime.now(timezone.utc):%Y%m%dT%H%M%S.%f}Z-{secrets.token_hex(3)}"
        self.url = join_url(join_url(output, RUNS), name)
        self._rows: list[Mapping[str, Any]] = []
        self._parts = 0
        self._since = time.monotonic()
        self._write_json(_SETTINGS, settings)

    def part(self, kind: str, number: int) -> str:
        """Return the URL of a part of the "plan" or of the "status" table."""
        return join_url(self.url, f"{kind}-{number:05d}.parquet")

    def add(self, statuses: Iterable[Mapping[str, Any]]) -> None:
        """Keep rows of :data:`~tsdsr.distributed.records.STATUS`; write a part if enough rows or time have come.

        Raises:
            FileWriteError: a part cannot be written.
        """
        self._rows.extend(statuses)
        if len(self._rows) >= MOST_ROWS or time.monotonic() - self._since >= MOST_SECONDS:
            self.flush()

    def flush(self) -> None:
        """Write the rows that are kept, if any.

        Raises:
            FileWriteError: they cannot be written.
        """
        if self._rows:
            table = as_table(self._rows, STATUS)
            self._write(self.part("status", self._parts), lambda path: pq.write_table(table, path, compression="zstd"))
            self._rows, self._parts = [], self._parts + 1
        self._since = time.monotonic()

    def finish(self, counts: Mapping[str, Any]) -> None:
        """Write what is left, and that every row of the plan has its status.

        Raises:
            FileWriteError: it cannot be written.
        """
        self.flush()
        self._write_json(_FINISHED, {"finished_at": datetime.now(timezone.utc).isoformat(), **counts})

    def _write_json(self, name: str, content: Mapping[str, Any]) -> None:
        text = json.dumps(content, indent=1)
        self._write(join_url(self.url, name), lambda path: path.write_text(text, encoding="utf-8"))

    @staticmethod
    def _write(url: str, write: Callable[[Path], object]) -> None:
        with tempfile.TemporaryDirectory(prefix="tsdsr-") as folder:
            write(path := Path(folder) / "part")
            write_file(url, path)


@dataclass(frozen=True)
class EarlierRun:
    """The folder of a run that ended, or that another process works on.

    Attributes:
        settings (mapping): content of ``settings.json``; {} if it cannot be read, or holds something else.
        plan, statuses (tuple of str): URLs of the parts.
        finished (bool): whether every row of its plan has a status.
    """

    settings: Mapping[str, Any]
    plan: tuple[str, ...]
    statuses: tuple[str, ...]
    finished: bool


def earlier_runs(output: str) -> list[EarlierRun]:
    """Return the runs whose results are in a folder, in the order of their beginnings.

    Raises:
        FileReadError, MissingDependencyError: see :func:`~tsdsr.remote_files.list_files`.
    """
    found: dict[str, list[str]] = {}
    for file in list_files(join_url(output, RUNS)):
        name, _, inner = file.relative.partition("/")
        found.setdefault(name, []).append(inner)
    return [_earlier_run(join_url(join_url(output, RUNS), name), found[name]) for name in sorted(found)]


def read_parts(kind: str, parts: Iterable[str], on_damaged: Callable[[str], None]) -> Iterator[pa.Table]:
    """Read the parts of a table one by one.

    Args:
        kind (str): "plan" or "status".
        parts (iterable of str): their URLs.
        on_damaged (callable): called with a message for each part that is no such table; the others are read.

    Raises:
        FileReadError: a part cannot be read from the storage.
    """
    schema = SCHEMAS[kind]
    for part in parts:
        try:
            table = pq.read_table(pa.BufferReader(read_bytes(part))).select(schema.names).cast(schema)
        except (pa.ArrowException, KeyError, OSError) as error:
            if isinstance(error, FileReadError):
                raise
            on_damaged(f"{part}: is damaged ({first_line(error)}); what it says about results is lost")
        else:
            yield table


def _earlier_run(url: str, names: list[str]) -> EarlierRun:
    def parts(kind: str) -> tuple[str, ...]:
        wanted = sorted(name for name in names if name.startswith(f"{kind}-") and name.endswith(".parquet"))
        return tuple(join_url(url, name) for name in wanted)

    settings: Any = None
    if _SETTINGS in names:
        with suppress(ValueError):
            read = json.loads(read_bytes(join_url(url, _SETTINGS)))
            json.dumps(read, allow_nan=False)  # numbers that no hash accepts
            settings = read
    return EarlierRun(settings if _are_settings(settings) else {}, parts("plan"), parts("status"), _FINISHED in names)


def _are_settings(content: Any) -> bool:
    if not isinstance(content, dict):
        return False
    formats = content.get("formats", {})
    values = formats.values() if isinstance(formats, dict) else [formats]
    return isinstance(content.get("output", ""), str) and all(isinstance(value, dict) for value in values)
