"""Wall time and peak memory, of whatever runs on whatever device."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from statistics import median
from typing import Any

import torch

from tsdsr.devices import wait_for

_PROC = Path("/proc/self")


def seconds_of(call: Callable[[], Any], device: torch.device, runs: int, warmup: int = 1) -> float:
    """Median wall time of a call in seconds, after ``warmup`` calls that do not count.

    Args:
        call (callable): without arguments; its result is thrown away.
        device (torch.device): waited for before the clock is read.
        runs (int): how many calls count.
        warmup (int): calls before.
    """

    def timed() -> float:
        wait_for(device)
        started = time.perf_counter()
        call()
        wait_for(device)
        return time.perf_counter() - started

    for _ in range(warmup):
        call()
    return median(timed() for _ in range(runs))


@contextmanager
def peak_memory(device: torch.device) -> Iterator[list[int]]:
    """Within the block, watch the most bytes held: by the allocator on CUDA, by the whole process on Linux.

    Yields:
        list of int: empty at first; holds the figure after the block, or stays empty where nothing can be known.
    """
    found: list[int] = []
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        yield found
        found.append(torch.cuda.max_memory_allocated(device))
        return
    with suppress(OSError):
        (_PROC / "clear_refs").write_text("5")  # forgets the high-water mark of earlier systems
    yield found
    with suppress(OSError, StopIteration, ValueError):
        line = next(s for s in (_PROC / "status").read_text().splitlines() if s.startswith("VmHWM"))
        found.append(int(line.split()[1]) * 1024)


class Stopwatch:
    """Sums wall seconds by part, waiting for the device at both ends.

    Args:
        device (torch.device): where the work is queued.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.seconds: defaultdict[str, float] = defaultdict(float)

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Count the block for part ``name``."""
        wait_for(self.device)
        started = time.perf_counter()
        yield
        wait_for(self.device)
        self.seconds[name] += time.perf_counter() - started

    @contextmanager
    def watching(self, owner: object, attribute: str, part: str) -> Iterator[None]:
        """Within the block, count every call of a function or method for ``part``."""
        missing = object()
        kept = vars(owner).get(attribute, missing)
        function: Callable[..., Any] = getattr(owner, attribute)

        def timed(*args: Any, **kwargs: Any) -> Any:
            with self.part(part):
                return function(*args, **kwargs)

        setattr(owner, attribute, timed)
        try:
            yield
        finally:
            if kept is missing:
                delattr(owner, attribute)
            else:
                setattr(owner, attribute, kept)
