"""How much memory is free, how much a tile takes, and where the result is kept."""

from __future__ import annotations

import logging
import math
import tempfile
from pathlib import Path

import numpy as np
import psutil
import torch
from numpy.typing import DTypeLike

from tsdsr.models.zoo import ModelSpec

logger = logging.getLogger(__name__)

TILE_SHARE = 0.4
"""Part of the free memory that tiles may take; the rest is for the result and for what an estimate misses."""
CANVAS_SHARE = 0.5
"""A result that takes more of the free memory than this is kept on disk."""
_BAND_BYTES = 16
"""Bytes a pixel of a row of tiles: its blended float32 values, and those on their way to the canvas."""


def free_memory(device: torch.device) -> int:
    """Bytes that can be allocated on a device now: VRAM, or RAM within the limits of this process's control groups."""
    if device.type == "cuda":
        free: int = torch.cuda.mem_get_info(device)[0]
        return free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    ram: int = psutil.virtual_memory().available
    if device.type == "mps":
        return min(ram, torch.mps.recommended_max_memory() - torch.mps.driver_allocated_memory())
    limit = control_group_memory()
    return ram if limit is None else min(ram, limit)


def control_group_memory(root: Path = Path("/")) -> int | None:
    """Bytes left below the tightest memory limit of this process's control groups (v1 or v2); None without a limit.

    File pages that the kernel drops on demand count as free.

    Args:
        root (Path): the root of the file system.
    """
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        return None
    left: list[int] = []
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers and "memory" not in controllers.split(","):
            continue
        base = root / "sys/fs/cgroup" / ("memory" if controllers else "")
        names = (
            ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
            if controllers
            else ("memory.max", "memory.current", "inactive_file")
        )
        group = base / path.lstrip("/")
        for folder in (group, *group.parents):
            if (found := _left_in(folder, *names)) is not None:
                left.append(found)
            if folder == base:
                break
    return min(left, default=None)


def _left_in(folder: Path, limit: str, usage: str, reclaimable: str) -> int | None:
    try:
        most, used = (int((folder / name).read_text()) for name in (limit, usage))
        stat = dict(line.split() for line in (folder / "memory.stat").read_text().splitlines())
    except (OSError, ValueError):  # no such group, or "max"
        return None
    return max(0, most - used + int(stat.get(reclaimable, 0)))


def largest_tile(spec: ModelSpec, size: tuple[int, int], free: int, dtype: torch.dtype) -> int:
    """Edge of the largest tile that fits into memory, a multiple of what the model needs, at most its native size.

    Args:
        spec (ModelSpec): the model; its ``tile_bytes`` and ``fixed_tile_bytes`` were measured.
        size (tuple): height and width of the result; a band is as long as its shorter side.
        free (int): bytes free on the device.
        dtype (torch.dtype): precision of the network.
    """
    budget = TILE_SHARE * free - spec.fixed_tile_bytes
    pixel = spec.tile_bytes * dtype.itemsize / 4
    band = _BAND_BYTES * min(size)
    edge = (math.sqrt(max(0.0, band**2 + 4 * pixel * budget)) - band) / (2 * pixel)  # pixel e² + band e = budget
    smallest = smallest_tile(spec)
    return max(smallest, min(spec.native_size, int(edge) // spec.size_multiple * spec.size_multiple))


def smallest_tile(spec: ModelSpec) -> int:
    """Edge of the smallest tile worth running."""
    return max(4 * spec.size_multiple, 64)


def make_canvas(shape: tuple[int, ...], dtype: DTypeLike) -> np.ndarray:
    """An array for the result: in RAM, or, when it would take half of what is free, in a temporary file.

    The file has no name (on POSIX systems) and vanishes with the array.
    """
    size = math.prod(shape) * np.dtype(dtype).itemsize
    if size <= CANVAS_SHARE * free_memory(torch.device("cpu")):
        return np.empty(shape, dtype)
    logger.info("the result takes %.1f GB and is kept in a temporary file", size / 1e9)
    with tempfile.TemporaryFile() as file:  # the mapping outlives the open file
        return np.memmap(file, dtype=dtype, mode="w+", shape=shape)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an exception is one of the faces of "out of memory"."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    text = str(error).lower()
    return isinstance(error, RuntimeError) and ("out of memory" in text or "can't allocate memory" in text)
