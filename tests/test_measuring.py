"""Time by stage and peak memory."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tsdsr.arrays import HostDevice
from tsdsr.measuring import Stopwatch, peak_memory, peak_memory_so_far, seconds_of, stage


def test_the_median_covers_warm_runs_only() -> None:
    calls: list[int] = []
    seconds_of(lambda: calls.append(1), HostDevice(), runs=3, warmup=2)
    assert len(calls) == 5


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="the kernel keeps no resettable mark")
def test_peak_memory_covers_the_block_only() -> None:
    torch.ones(64 * 2**20, dtype=torch.uint8).sum()  # an earlier, higher peak
    with peak_memory(HostDevice()) as small:
        pass
    with peak_memory(HostDevice()) as large:
        torch.ones(256 * 2**20, dtype=torch.uint8).sum()
    assert large[0] - small[0] > 200 * 2**20


class Clock:
    """A clock that the test advances."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_the_time_of_a_nested_stage_is_subtracted() -> None:
    clock = Clock()
    watch = Stopwatch(HostDevice(), clock)
    with watch.listening():
        clock.now += 1
        with stage("outer"):
            clock.now += 2
            with stage("inner"):
                clock.now += 4
            clock.now += 8
            with stage("outer"):  # within itself
                clock.now += 16
        clock.now += 32
    assert watch.seconds == {"other": 33, "outer": 26, "inner": 4}


def test_a_stage_that_fails_is_counted_and_closed() -> None:
    clock = Clock()
    watch = Stopwatch(HostDevice(), clock)

    def fail() -> None:
        with stage("part"):
            clock.now += 1
            raise ValueError("half-way")

    with watch.listening():
        with pytest.raises(ValueError, match="half-way"):
            fail()
        clock.now += 2
    assert watch.seconds == {"part": 1, "other": 2}


def test_stages_are_not_counted_without_a_listener() -> None:
    watch = Stopwatch(HostDevice())
    with watch.listening():
        pass
    with stage("part"):
        pass
    assert set(watch.seconds) == {"other"}


def test_the_peak_so_far_covers_what_was_held() -> None:
    held = torch.ones(64 * 2**20, dtype=torch.uint8)
    assert peak_memory_so_far(HostDevice()) > held.numel()
