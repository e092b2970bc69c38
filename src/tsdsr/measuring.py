"""Wall time by stage and peak memory, on any device."""

from __future__ import annotations

import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from pathlib import Path
from typing import Any

from tsdsr.arrays import ArrayDevice

_PROC = Path("/proc/self")


def seconds_of(call: Callable[[], Any], device: ArrayDevice, runs: int, warmup: int = 1) -> float:
    """Measure the median wall time of a call in seconds, after ``warmup`` untimed calls.

    Args:
        call (callable): takes no arguments; its result is discarded.
        device (ArrayDevice): synchronised before the clock is read.
        runs (int): number of timed calls.
        warmup (int): number of untimed calls before.
    """

    from statistics import median  # brings decimal and random, which a restored image does not need

    def timed() -> float:
        device.wait()
        started = time.perf_counter()
        call()
        device.wait()
        return time.perf_counter() - started

    for _ in range(warmup):
        call()
    return median(timed() for _ in range(runs))


@contextmanager
def peak_memory(device: ArrayDevice) -> Iterator[list[int]]:
    """Measure peak memory within the block: of the device if it has its own, of the whole process on Linux.

    Yields:
        list of int: empty at first; contains the peak in bytes after the block, or stays empty if unknown.
    """
    found: list[int] = []
    device.reset_peak()
    with suppress(OSError):
        (_PROC / "clear_refs").write_text("5", encoding="ascii")  # resets the high-water mark
    yield found
    if device.peak_memory() is not None or _high_water_mark() is not None:
        found.append(peak_memory_so_far(device))


def peak_memory_so_far(device: ArrayDevice) -> int:
    """Return the peak bytes so far: of the device if it has its own memory, of the whole process otherwise."""
    own = device.peak_memory()
    if own is not None:
        return own
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
    """Return the process's peak resident size in bytes since the last reset; None if the kernel does not report it."""
    with suppress(OSError, StopIteration, ValueError):
        line = next(
            s
            for s in (_PROC / "status").read_text(encoding="utf-8", errors="replace").splitlines()
            if s.startswith("VmHWM")
        )
        return int(line.split()[1]) * 1024
    return None


class Stopwatch:
    """Sum seconds by stage, synchronising the device at both ends of each.

    The time of a nested stage is subtracted from the outer one, so that all stages add up to the total time::

        watch = Stopwatch(device)
        with watch.listening():
            pipe(image)               # its stages are named by :func:`stage`
        watch.seconds                 # {"encode": 0.2, "denoise": 1.3, ..., "other": 0.1}

    Args:
        device (ArrayDevice): device on which the work is queued.
        clock (callable): returns seconds; default: wall time.
    """

    def __init__(self, device: ArrayDevice, clock: Callable[[], float] = time.perf_counter) -> None:
        self.device, self.clock = device, clock
        self.seconds: defaultdict[str, float] = defaultdict(float)
        self._open: list[str] = []
        self._since = 0.0

    @contextmanager
    def listening(self, rest: str = "other") -> Iterator[None]:
        """Time every :func:`stage` within the block, and the remaining time as ``rest``."""
        token = _listener.set(self)
        try:
            with self.stage(rest):
                yield
        finally:
            _listener.reset(token)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Add the time of the block to a stage."""
        self._count()
        self._open.append(name)
        try:
            yield
        finally:
            self._count()
            self._open.pop()

    def _count(self) -> None:
        """Add the time since the last change of stage to the innermost open stage."""
        self.device.wait()
        now = self.clock()
        if self._open:
            self.seconds[self._open[-1]] += now - self._since
        self._since = now


_listener: ContextVar[Stopwatch | None] = ContextVar("listener", default=None)


@contextmanager
def stage(name: str) -> Iterator[None]:
    """Mark the block as a named stage for the listening :class:`Stopwatch`; a no-op without one."""
    watch = _listener.get()
    if watch is None:
        yield
        return
    with watch.stage(name):
        yield
