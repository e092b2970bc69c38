"""Parts of the plan of a run: Parquet files whose row groups are batches of about equal work."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from tsdsr.distributed.records import PLAN, as_table
from tsdsr.distributed.run_folder import RunFolder
from tsdsr.remote_files import write_file

BATCHES_A_PART = 1_000


class PlanWriter:
    """Writes rows of PLAN as batches, and batches as parts.

    Args:
        run (RunFolder): the run.
        folder (Path): a temporary folder.
        most_rows, most_bytes (int): a batch has at most so many rows, and input bytes unless it is a single row.

    Attributes:
        parts (list of str): URLs of the parts written.
        bytes (int): of the pictures so far; unknown sizes are not counted.
    """

    def __init__(self, run: RunFolder, folder: Path, most_rows: int, most_bytes: int) -> None:
        self._run, self._most_rows, self._most_bytes = run, most_rows, most_bytes
        self.parts: list[str] = []
        self.bytes = 0
        self._batch: list[dict[str, Any]] = []
        self._batch_bytes = self._batches = 0
        self._path = folder / "part"
        self._part: pq.ParquetWriter | None = None

    def add(self, row: dict[str, Any]) -> None:
        """Add a row of :data:`~tsdsr.distributed.records.PLAN`.

        Raises:
            FileWriteError: a part is complete and cannot be written.
        """
        size = max(row["bytes"], 0)
        if self._batch and (len(self._batch) >= self._most_rows or self._batch_bytes + size > self._most_bytes):
            self._write_batch()
        self._batch.append(row)
        self._batch_bytes += size
        self.bytes += size

    def close(self) -> None:
        """Write what is left.

        Raises:
            FileWriteError: it cannot be written.
        """
        if self._batch:
            self._write_batch()
        if self._part is not None:
            self._write_part()

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
