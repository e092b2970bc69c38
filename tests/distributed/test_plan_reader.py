"""Segments of a plan: bounded by the number of processes, not by the archive."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

pytest.importorskip("ray")
from tests.child_processes import finished
from tsdsr.distributed.plan_reader import next_segment

PARTS = [str(number) for number in range(1_000)]


@pytest.mark.parametrize(("processes", "count"), [(1, 10), (156, 10), (157, 11), (3_200, 205), (10**6, 1_000)])
def test_a_segment_has_64_batches_for_each_process_and_at_least_10_parts(processes: int, count: int) -> None:
    segment, left = next_segment(PARTS, processes)
    assert [*segment, *left] == PARTS
    assert len(segment) == count


def test_ray_data_takes_the_setting_that_limits_what_it_reads_ahead() -> None:
    """It is read once, when Ray Data is imported."""
    code = (
        "from tsdsr.distributed import cluster\n"
        "with cluster._environment():\n"
        "    from ray.data._internal.execution.backpressure_policy import DownstreamCapacityBackpressurePolicy\n"
        "print(DownstreamCapacityBackpressurePolicy.OBJECT_STORE_BUDGET_UTIL_THRESHOLD)\n"
    )
    result = finished([sys.executable, "-c", code], cwd=Path(__file__).parents[2])
    assert result.stdout == b"0.0\n", result.stderr
