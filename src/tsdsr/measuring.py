"""Wall time by stage and peak memory, of whatever runs on whatever device."""

from __future__ import annotations

import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
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
    else:
        with suppress(OSError):
            (_PROC / "clear_refs").write_text("5")  # resets the high-water mark
    yield found
    if device.type == "cuda" or _high_water_mark() is not None:
        found.append(peak_memory_so_far(device))


def peak_memory_so_far(device: torch.device) -> int:
    """Most bytes held so far: by the allocator on CUDA, by the whole process otherwise."""
    if device.type == "cuda":
        return int(torch.cuda.max_memory_allocated(device))
    mark = _high_water_mark()
    if mark is not None:
        return mark
    if sys.platform == "win32":
        import psutil

        return int(psutil.Process().memory_info().peak_wset)
    import resource  # POSIX only

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def _high_water_mark() -> int | None:
    """The process's largest resident size in bytes since it was reset last; None where the kernel does not tell."""
    with suppress(OSError, StopIteration, ValueError):
        line = next(s for s in (_PROC / "status").read_text().splitlines() if s.startswith("VmHWM"))
        return int(line.split()[1]) * 1024
    return None


class Stopwatch:
    """Sums seconds by stage, waiting for the device at both ends of each.

    A stage within another is taken from it, so that all stages together give the time of the whole::

        watch = Stopwatch(device)
        with watch.listening():
            pipe(image)               # its stages are named by :func:`stage`
        watch.seconds                 # {"encode": 0.2, "denoise": 1.3, ..., "other": 0.1}

    Args:
        device (torch.device): where the work is queued.
        clock (callable): gives seconds; default wall time.
    """

    def __init__(self, device: torch.device, clock: Callable[[], float] = time.perf_counter) -> None:
        self.device, self.clock = device, clock
        self.seconds: defaultdict[str, float] = defaultdict(float)
        self._open: list[str] = []
        self._since = 0.0

    @contextmanager
    def listening(self, rest: str = "other") -> Iterator[None]:
        """Within the block, count every :func:`stage`, and what is in none of them as ``rest``."""
        token = _listener.set(self)
        try:
            with self.stage(rest):
                yield
        finally:
            _listener.reset(token)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Count the block for a stage."""
        self._count()
        self._open.append(name)
        try:
            yield
        finally:
            self._count()
            self._open.pop()

    def _count(self) -> None:
        """Count the time since the last change of stage for the innermost stage that is open."""
        wait_for(self.device)
        now = self.clock()
        if self._open:
            self.seconds[self._open[-1]] += now - self._since
        self._since = now


_listener: ContextVar[Stopwatch | None] = ContextVar("listener", default=None)


@contextmanager
def stage(name: str) -> Iterator[None]:
    """Name the block as a stage of its run, for the :class:`Stopwatch` that listens; without one nothing happens."""
    watch = _listener.get()
    if watch is None:
        yield
        return
    with watch.stage(name):
        yield
