"""Wall time and peak memory."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tsdsr.measuring import peak_memory, seconds_of


def test_the_median_covers_warm_runs_only() -> None:
    calls: list[int] = []
    seconds_of(lambda: calls.append(1), torch.device("cpu"), runs=3, warmup=2)
    assert len(calls) == 5


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="the kernel keeps no resettable mark")
def test_peak_memory_covers_the_block_only() -> None:
    torch.ones(64 * 2**20, dtype=torch.uint8).sum()  # an earlier, higher peak
    with peak_memory(torch.device("cpu")) as small:
        pass
    with peak_memory(torch.device("cpu")) as large:
        torch.ones(256 * 2**20, dtype=torch.uint8).sum()
    assert large[0] - small[0] > 200 * 2**20
