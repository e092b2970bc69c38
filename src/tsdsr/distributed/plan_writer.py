"""Parts of the plan of a run: Parquet files whose row groups are batches of about equal work."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from tsdsr.distributed.records import PLAN, as_table
from tsdsr.distributed.run_folder import RunFolder
from tsdsr.remote_files import write_file

MOST_ROWS, MOST_BYTES = 32, 64_000_000
"""A batch has at most so many pictures, and so many bytes of them unless it is a single one."""

FEWEST_BATCHES = 16
"""A short plan has smaller batches, so that several processes share it."""

BATCHES_A_PART = 1_000


class PlanWriter:
    """Writes rows of PLAN as batches, and batches as parts.

    Args:
        run (RunFolder): the run.
        folder (Path): a temporary folder.

    Attributes:
        parts (list of str): URLs of the parts written.
    """

    def __init__(self, run: RunFolder, folder: Path) -> None:
        self._run = run
        self.parts: list[str] = []
        self._first: list[dict[str, Any]] | None = []  # kept until it is known whether the plan is short
        self._most_rows = MOST_ROWS
        self._batch: list[dict[str, Any]] = []
        self._batch_bytes = self._batches = 0
        self._path = folder / "part"
        self._part: pq.ParquetWriter | None = None

    def add(self, row: dict[str, Any]) -> None:
        """Add a row of :data:`~tsdsr.distributed.records.PLAN`.

        Raises:
            FileWriteError: a part is complete and cannot be written.
        """
        if self._first is None:
            self._enter(row)
        else:
            self._first.append(row)
            if len(self._first) == FEWEST_BATCHES * MOST_ROWS:
                self._enter_first()

    def close(self) -> None:
        """Write what is left.

        Raises:
            FileWriteError: it cannot be written.
        """
        if self._first:
            self._most_rows = max(1, len(self._first) // FEWEST_BATCHES)
            self._enter_first()
        if self._batch:
            self._write_batch()
        if self._part is not None:
            self._write_part()

    def _enter_first(self) -> None:
        rows, self._first = self._first or [], None
        for row in rows:
            self._enter(row)

    def _enter(self, row: dict[str, Any]) -> None:
        size = max(row["bytes"], 0)
        if self._batch and (len(self._batch) >= self._most_rows or self._batch_bytes + size > MOST_BYTES):
            self._write_batch()
        self._batch.append(row)
        self._batch_bytes += size

    def _write_batch(self) -> None:
        if self._part is None:
            self._part = pq.ParquetWriter(self._path, PLAN, compression="zstd", write_statistics=False)
        self._part.write_table(as_table(self._batch, PLAN), row_group_size=len(self._batch))
        self._batch, self._batch_bytes, self._batches = [], 0, self._batches + 1
        if self._batches == BATCHES_A_PART:
            self._write_part()

    def _write_part(self) -> None:
        assert self._part is not None
        self._part.close()
        self.parts.append(self._run.part("plan", len(self.parts)))
        write_file(self.parts[-1], self._path)
        self._part, self._batches = None, 0
