"""Memory of the driver while an archive is planned: rows of metadata, no pictures.

    python benchmarks/archive_memory.py --rows 10000 1000000

For each number of rows, a process plans a table of as many made-up URLs, records all of them as done, and plans again.
It prints the process's memory (resident set, its peak), the seconds of both plans, and the size of the run's files.
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from tsdsr.distributed.planning import ArchivePlan, plan_archive
from tsdsr.distributed.records import status_row
from tsdsr.distributed.run_folder import read_parts
from tsdsr.images.writing import WriteOptions
from tsdsr.pipeline.made_from import BatchSettings
from tsdsr.pipeline.options import RestoreOptions

SETTINGS = BatchSettings("made up", RestoreOptions(), WriteOptions())
ROWS_A_GROUP = 10_000
SCHEMA = pa.schema([("uri", pa.string()), ("bytes", pa.int64()), ("stamp", pa.string())])


def write_table(path: Path, rows: int) -> None:
    with pq.ParquetWriter(path, SCHEMA) as writer:
        for start in range(0, rows, ROWS_A_GROUP):
            numbers = range(start, min(start + ROWS_A_GROUP, rows))
            writer.write_table(
                pa.Table.from_pylist(
                    [
                        {"uri": f"s3://museum/scans/{n // 1000:06d}/page-{n:09d}.tif", "bytes": 2_000_000,
                         "stamp": f"{n:032x}-2000000"}
                        for n in numbers
                    ],
                    SCHEMA,
                )
            )  # fmt: skip


def statuses(plan: ArchivePlan) -> Iterator[list[dict[str, Any]]]:
    """Yield what actors would return."""
    for table in read_parts("plan", plan.parts, print):
        for batch in table.to_batches(32):
            yield [
                status_row(row["input"], row["output"], "done", seconds=0.1, pixels=2**20, size=1, stamp=row["stamp"],
                           input_hash="0" * 64, settings=plan.settings["TIFF"], node="node-1")
                for row in batch.to_pylist()
            ]  # fmt: skip


def measure(rows: int, folder: Path) -> None:
    write_table(folder / "table.parquet", rows)
    before = peak()
    started = time.perf_counter()
    plan = plan_archive([str(folder / "table.parquet")], str(folder / "out"), SETTINGS)
    planned = time.perf_counter() - started
    assert plan.pending == rows, plan
    for batch in statuses(plan):
        plan.run.add(batch)
    plan.run.finish({"done": rows})
    started = time.perf_counter()
    again = plan_archive([str(folder / "table.parquet")], str(folder / "out"), SETTINGS)
    assert again.pending == rows, again  # their results are made up, so none is there
    replanned = time.perf_counter() - started
    size = sum(path.stat().st_size for path in (folder / "out").rglob("*.*") if path.is_file()) / 1e6
    print(f"{rows:<12,} {peak():8.1f} {peak() - before:8.1f} {planned:9.1f} {replanned:9.1f} {size:9.1f}", flush=True)


def peak() -> float:
    """Return the highest resident set so far in MB."""
    value = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return value / 1e6 if sys.platform == "darwin" else value * 1024 / 1e6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, nargs="+", default=[10_000, 1_000_000])
    parser.add_argument("--one", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        for rows in arguments.rows:
            with tempfile.TemporaryDirectory() as folder:
                measure(rows, Path(folder))
        return
    print(f"{'rows':<12} {'peak MB':>8} {'of it':>8} {'plan s':>9} {'again s':>9} {'files MB':>9}")
    for rows in arguments.rows:
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        subprocess.run([sys.executable, __file__, "--one", "--rows", str(rows)], check=True, env=environment)


if __name__ == "__main__":
    main()
