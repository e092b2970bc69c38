"""Parts of the plan of a run, as a dataset of Ray Data."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tsdsr.distributed.plan_writer import BATCHES_A_PART

if TYPE_CHECKING:
    import pyarrow as pa
    import ray.data

_READERS = 2
"""Parts of the plan that are read at the same time. Each has hundreds of batches."""

_PARTS_A_SEGMENT, _BATCHES_A_PROCESS = 10, 64
"""Size of a segment: at least so many parts, and at least so many batches for each process."""


def next_segment(parts: Sequence[str], processes: int) -> tuple[Sequence[str], Sequence[str]]:
    """Divide the parts that are left into a segment, which is executed next as one dataset, and the rest.

    Ray Data keeps several kB of statistics of each batch, in the driver, until the execution of a dataset ends.
    Segments of bounded size keep these from growing with the archive. Each costs a start of all processes and a wait
    for the last of them.

    Args:
        parts (sequence of str): URLs of the parts that are left.
        processes (int): how many processes work on them.

    Returns:
        tuple: parts of the segment, and the rest.
    """
    count = max(_PARTS_A_SEGMENT, -(-processes * _BATCHES_A_PROCESS // BATCHES_A_PART))
    return parts[:count], parts[count:]


def read_batches(parts: Sequence[str]) -> ray.data.Dataset:
    """Return a dataset whose rows are batches: one for each row group of parts of a plan.

    A row is a block here, and so a task. Ray Data's own reading of Parquet would join and divide row groups, and need
    CPUs that the processes of the run hold.

    Args:
        parts (sequence of str): URLs of :data:`~tsdsr.distributed.records.PLAN` tables.
    """
    import ray.data
    from ray.data import Datasource, ReadTask
    from ray.data.block import BlockMetadata

    unknown = BlockMetadata(num_rows=None, size_bytes=None, input_files=None, exec_stats=None)

    class Batches(Datasource):
        def __init__(self, parts: Sequence[str]) -> None:
            super().__init__()
            self._parts = parts

        def estimate_inmemory_data_size(self) -> int | None:
            return None

        def get_read_tasks(self, parallelism: int, *_: object, **__: object) -> list[ReadTask]:
            return [ReadTask(_BatchesOf(part), unknown) for part in self._parts]

    readers = min(_READERS, len(parts))
    return ray.data.read_datasource(Batches(parts), num_cpus=0, concurrency=readers, override_num_blocks=len(parts))


@dataclass(frozen=True)
class _BatchesOf:
    """Reads a part of a plan, batch by batch, in a process of the cluster."""

    part: str

    def __call__(self) -> Iterator[pa.Table]:
        import pyarrow as pa
        import pyarrow.parquet as pq

        from tsdsr.distributed.restoring import pack
        from tsdsr.remote_files import read_bytes

        file = pq.ParquetFile(pa.BufferReader(read_bytes(self.part)))
        for group in range(file.num_row_groups):
            yield pack([file.read_row_group(group)])
