"""Calls of graphs in runtimes outside torch: functions of one numpy array, with this package's errors."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tsdsr.errors import TSDSRError, WeightsError
from tsdsr.out_of_memory import mentions_lack_of_memory
from tsdsr.processor import core_count

Floats = NDArray[np.float32]

Graph = Callable[[Floats], Floats]
"""A network in a runtime: (B, C, h, w) → (B, C', h', w'), float32."""


def default_threads() -> int:
    """Return the number of threads to compute with: the cores of this process, or fewer by ``OMP_NUM_THREADS``.

    More threads than cores wait for each other without sleeping: 64 on 2 cores take forty times as long.
    """
    wanted = os.environ.get("OMP_NUM_THREADS", "")
    if wanted.isdecimal() and int(wanted) > 0:
        return min(int(wanted), core_count())
    return core_count()


def each(graph: Graph, x: Floats) -> Floats:
    """Run a graph on each sample of a batch, for graphs that take one sample."""
    results = [graph(x[i : i + 1]) for i in range(len(x))]
    return results[0] if len(results) == 1 else np.concatenate(results)


def loaded(path: Path, load: Callable[[], Any], remedy: str = "export the model again") -> Any:
    """Call a runtime's loader.

    Args:
        path (Path): the graph.
        load (callable): the loader.
        remedy (str): what to do with a damaged graph.

    Raises:
        MemoryError: memory ran out.
        WeightsError: the graph cannot be loaded.
    """
    try:
        return load()
    except Exception as error:  # the runtimes' errors have no common base class
        if isinstance(error, MemoryError) or mentions_lack_of_memory(str(error)):
            raise MemoryError(summary(error)) from error
        raise WeightsError(f"{path}: cannot be loaded ({summary(error)}); {remedy}") from error


def guarded(path: Path, run: Callable[[Floats], Any]) -> Graph:
    """Wrap a runtime's call: its errors become TSDSRError, a lack of memory MemoryError."""

    def call(x: Floats) -> Floats:
        try:
            result: Floats = run(np.ascontiguousarray(x, np.float32))
        except Exception as error:
            if isinstance(error, MemoryError) or mentions_lack_of_memory(str(error)):
                raise MemoryError(summary(error)) from error
            raise TSDSRError(f"{path.stem} failed on input {tuple(x.shape)}: {summary(error)}") from error
        return result

    return call


def summary(error: Exception) -> str:
    """Return the last line of a message: the first ones give locations in the runtime's own sources."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__
