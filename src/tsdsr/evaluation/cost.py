"""Time and memory of a system on one image: warm, median, with what it ran on."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from statistics import median
from typing import Any

import torch
from PIL import Image

from tsdsr.evaluation.results import Cost

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
        _wait_for(device)
        started = time.perf_counter()
        call()
        _wait_for(device)
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


def measure(
    restore: Callable[[Image.Image], Image.Image],
    image: Image.Image,
    *,
    network: Callable[[], Any] | None = None,
    parameters: int = 0,
    device: str = "cpu",
    dtype: str = "float32",
    runs: int = 5,
) -> Cost:
    """What one image costs.

    Args:
        restore (callable): the whole system.
        image (PIL image): input to time with.
        network (callable | None): the same without the autoencoder, on prepared latents.
        parameters (int): number of weights.
        device, dtype (str): where the system runs and in which precision.
        runs (int): warm runs.
    """
    where = torch.device(device)
    with peak_memory(where) as peak:
        seconds = seconds_of(lambda: restore(image), where, runs)
    alone = None if network is None else seconds_of(network, where, runs)
    return Cost(seconds, alone, runs, device, dtype, image.size, parameters, peak[0] if peak else None)


def _wait_for(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
