"""Archives for tests of planning: files that need not be pictures, and runs without a model."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from tsdsr.distributed.planning import ArchivePlan, plan_archive
from tsdsr.distributed.records import status_row
from tsdsr.hashing import hash_bytes
from tsdsr.images.formats import image_format
from tsdsr.images.writing import WriteOptions
from tsdsr.pipeline.made_from import BatchSettings
from tsdsr.pipeline.options import RestoreOptions
from tsdsr.remote_files import join_url, local_path, read_bytes, write_file


def settings(scale: float = 4.0, model: str | None = "hash of a model") -> BatchSettings:
    return BatchSettings(model, RestoreOptions(scale), WriteOptions())


def rows(plan: ArchivePlan) -> list[dict[str, Any]]:
    return [row for part in plan.parts for row in pq.read_table(_opened(part)).to_pylist()]


def batches(plan: ArchivePlan) -> list[list[str]]:
    """The inputs of each batch."""
    files = [pq.ParquetFile(_opened(part)) for part in plan.parts]
    return [file.read_row_group(number)["input"].to_pylist() for file in files for number in range(file.num_row_groups)]


def _opened(part: str) -> Any:
    import pyarrow as pa

    return pa.BufferReader(read_bytes(part))


@dataclass
class Archive:
    """An archive at ``root/in`` with results at ``root/out``.

    Attributes:
        root (str): URL or path.
        scratch (Path): a local folder.
        failures, notices (list of str): what the last plan said.
    """

    root: str
    scratch: Path
    failures: list[str] = field(default_factory=list)
    notices: list[str] = field(default_factory=list)

    @property
    def input(self) -> str:
        return join_url(self.root, "in")

    @property
    def output(self) -> str:
        return join_url(self.root, "out")

    def put(self, name: str, data: bytes = b"x") -> str:
        """Write a file below the root."""
        source = self.scratch / "put"
        source.write_bytes(data)
        write_file(url := join_url(self.root, name), source)
        return url

    def plan(self, inputs: Sequence[str] | str | None = None, scale: float = 4.0, **options: Any) -> ArchivePlan:
        self.failures, self.notices = [], []
        model = options.pop("model", "hash of a model")
        given = [self.input] if inputs is None else [inputs] if isinstance(inputs, str) else inputs
        return plan_archive(
            given, options.pop("output", self.output), settings(scale, model),
            on_failure=self.failures.append, on_notice=self.notices.append, **options,
        )  # fmt: skip

    def restore(self, plan: ArchivePlan, record: bool = True, finish: bool = True) -> int:
        """Do the work of a plan as actors do; return how many results were written."""
        done = list(self._results(plan))
        if record:
            plan.run.add(done)
            plan.run.flush()
        if finish:
            plan.run.finish({})
        return sum(row["status"] == "done" for row in done)

    def _results(self, plan: ArchivePlan) -> Iterator[dict[str, Any]]:
        for row in rows(plan):
            data = read_bytes(row["input"])
            made = {
                "input_hash": hash_bytes(data), "stamp": row["stamp"],
                "settings": plan.settings[image_format(row["output"])],
            }  # fmt: skip
            if row["input_hash"]:
                same = row["input_hash"] == made["input_hash"]
                size = len(read_bytes(row["output"]))
                yield status_row(row["input"], row["output"], "skipped" if same else "failed", size=size, **made)
            else:
                (self.scratch / "result").write_bytes(b"result of " + data)
                size = write_file(row["output"], self.scratch / "result")
                yield status_row(row["input"], row["output"], "done", size=size, **made)


def name_below(archive: Archive, url: str) -> str:
    """Return the path of an output or input below the archive's root."""
    root = archive.root if local_path(archive.root) is None else str(local_path(archive.root))
    return url.removeprefix(f"{root}/")
