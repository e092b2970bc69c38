"""Time several models in turn, each in its own process, part by part.

In separate processes, models do not share memory, threads, caches or compiled code. They alternate run by run, so that
a slowdown of the machine affects all of them.
"""

from __future__ import annotations

import json
import multiprocessing
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from tsdsr.benchmark.entries import PARTS, BenchModel, Entry, open_entry
from tsdsr.devices import TorchDevice
from tsdsr.errors import InvalidInputError, OutOfMemoryError
from tsdsr.files import StrPath, write_text
from tsdsr.machine import describe_machine, versions
from tsdsr.measuring import Stopwatch, peak_memory
from tsdsr.pipeline.options import check_scale
from tsdsr.runtimes.graph_calls import default_threads


@dataclass(frozen=True)
class BenchSettings:
    """Settings common to all models.

    Attributes:
        size (int): edge of the input in pixels.
        scale (float): enlargement.
        runs (int): number of timed runs.
        warmup (int): untimed runs before, reported separately; the first one includes compilation.
    """

    size: int = 128
    scale: float = 4.0
    runs: int = 5
    warmup: int = 1

    def __post_init__(self) -> None:
        if self.size < 1 or self.runs < 1 or self.warmup < 0:
            raise InvalidInputError("size and runs must be at least 1, and warmup at least 0")
        check_scale(self.scale)


@dataclass(frozen=True)
class Timing:
    """Measurements of one model.

    Attributes:
        name (str): column of the table.
        entry (Entry): how it was run.
        engine (str): what ran it.
        device, dtype (str): device and precision of its network.
        threads (int): CPU threads.
        parameters (int | None): number of weights, if known.
        load_seconds (float): loading time, without imports.
        warmup_seconds (tuple of float): duration of each warm-up run.
        runs (tuple of dict): for each timed run, seconds of each part, their sum "total", and "cpu", the processor time
            of all threads.
        peak_memory (int | None): peak bytes of the process (CPU) or the allocator (CUDA) in a run, weights included;
            None if unknown.
        peak_memory_loading (int | None): the same during loading.
    """

    name: str
    entry: Entry
    engine: str
    device: str
    dtype: str
    threads: int
    parameters: int | None
    load_seconds: float
    warmup_seconds: tuple[float, ...]
    runs: tuple[dict[str, float], ...]
    peak_memory: int | None
    peak_memory_loading: int | None

    def median(self, part: str = "total") -> float:
        """Return the seconds of a part in the run of median duration (the shorter of two), so that parts add up."""
        return sorted(self.runs, key=lambda run: run["total"])[(len(self.runs) - 1) // 2][part]

    def to_dict(self) -> dict[str, Any]:
        """Return JSON values: the runs, and the median, extremes and quartiles of each part."""
        names = (*PARTS, "total", "cpu")
        return {**asdict(self), "seconds": {name: spread([run[name] for run in self.runs]) for name in names}}


@dataclass(frozen=True)
class BenchResult:
    """Result of a benchmark. Ratios are relative to the first model."""

    machine: dict[str, Any]
    versions: dict[str, str]
    settings: BenchSettings
    timings: tuple[Timing, ...]

    def speedups(self) -> list[float]:
        """Return each model's speed relative to the first: the median over rounds of the ratio of totals."""
        first = [run["total"] for run in self.timings[0].runs]
        return [
            statistics.median(a / run["total"] for a, run in zip(first, timing.runs, strict=True))
            for timing in self.timings
        ]

    def memory_ratios(self) -> list[float | None]:
        """Return the peak memory of each model divided by that of the first."""
        first = self.timings[0].peak_memory
        return [t.peak_memory / first if t.peak_memory and first else None for t in self.timings]

    def save(self, path: StrPath) -> None:
        """Write everything as JSON."""
        found = {
            "machine": self.machine,
            "versions": self.versions,
            "settings": {**asdict(self.settings), "batch": 1},
            "models": [timing.to_dict() for timing in self.timings],
            "speedup_over_first": self.speedups(),
            "peak_memory_over_first": self.memory_ratios(),
        }
        write_text(path, json.dumps(found, indent=2) + "\n")


def spread(values: Sequence[float]) -> dict[str, float]:
    """Return median, minimum, maximum and quartiles (inclusive method)."""
    quartiles = statistics.quantiles(values, method="inclusive") if len(values) > 1 else [values[0]] * 3
    return {
        "median": quartiles[1], "min": min(values), "max": max(values), "q1": quartiles[0], "q3": quartiles[2],
    }  # fmt: skip


def bench(
    entries: Sequence[Entry], settings: BenchSettings, on_run: Callable[[str, int, int], None] | None = None
) -> BenchResult:
    """Time models in turn: each once, then each again.

    Args:
        entries (sequence of Entry): the others are compared with the first.
        settings (BenchSettings): sizes and numbers of runs.
        on_run (callable | None): called with (what, finished, total) before each step.

    Raises:
        InvalidInputError: no entry, two with the same name, or a peer for another scale.
        OutOfMemoryError: the system killed a model's process.
        TSDSRError: a model cannot be loaded or fails; see :func:`tsdsr.benchmark.entries.open_entry`.
    """
    names = [entry.name or entry.model for entry in entries]
    if not names or len(set(names)) < len(names):
        raise InvalidInputError("a benchmark needs models of different names")
    for entry in entries:
        entry.check_scale(settings.scale)
    rounds = settings.warmup + settings.runs
    total, done = len(names) * (1 + rounds), 0

    def tell(what: str) -> None:
        nonlocal done
        if on_run:
            on_run(what, done, total)
        done += 1

    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        source = folder / "input.png"
        example_image(settings.size).save(source)
        workers = []
        for name, entry in zip(names, entries, strict=True):
            tell(f"loading {name}")
            workers.append(stack.enter_context(_Worker(name, entry)))
        for round_number in range(rounds):
            for name, worker in zip(names, workers, strict=True):
                tell(name)
                worker.run(source, folder / "output.png", settings.scale, round_number < settings.warmup)
        timings = tuple(worker.timing() for worker in workers)
    return BenchResult(describe_machine(), versions(), settings, timings)


def example_image(size: int) -> Image.Image:
    """Create a deterministic RGB image with a gradient and grain, ``size`` squared."""
    ramp = np.linspace(0, 200, size)
    grain = np.random.default_rng(0).uniform(0, 55, (size, size, 3))
    return Image.fromarray((ramp[:, None, None] * 0.5 + ramp[None, :, None] * 0.5 + grain).astype(np.uint8))


class _Worker:
    """A model in its own process."""

    def __init__(self, name: str, entry: Entry) -> None:
        self.name, self.entry = name, entry
        self.warmup: list[float] = []
        self.runs: list[dict[str, float]] = []
        self.peaks: list[int] = []
        self._pool = ProcessPoolExecutor(1, multiprocessing.get_context("spawn"))
        self._about: dict[str, Any] = {}

    def __enter__(self) -> _Worker:
        try:
            self._about = self._ask(_open, self.entry)
        except BaseException:
            self._pool.shutdown()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown()

    def run(self, source: Path, target: Path, scale: float, is_warmup: bool) -> None:
        seconds, peak = self._ask(_run, source, target, scale)
        if is_warmup:
            self.warmup.append(seconds["total"])
        else:
            self.runs.append(seconds)
            self.peaks += peak

    def timing(self) -> Timing:
        peak = max(self.peaks, default=None)
        return Timing(
            self.name,
            self.entry,
            **self._about,
            warmup_seconds=tuple(self.warmup),
            runs=tuple(self.runs),
            peak_memory=peak,
        )

    def _ask(self, function: Callable[..., Any], *args: object) -> Any:
        try:
            return self._pool.submit(function, *args).result()
        except BrokenProcessPool as error:
            raise OutOfMemoryError(
                f"{self.name}: its process ended, probably for lack of memory; time fewer models or a smaller image"
            ) from error


_opened: list[BenchModel] = []  # the one model of a worker process


def _open(entry: Entry) -> dict[str, Any]:
    if entry.threads is not None:
        torch.set_num_threads(entry.threads)
    started = time.perf_counter()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    with peak_memory(TorchDevice(device)) as peak:
        model = open_entry(entry)
    _opened.append(model)
    return {
        "engine": model.engine,
        "device": str(model.device),
        "dtype": model.dtype,
        "threads": torch.get_num_threads() if model.engine == "torch" else entry.threads or default_threads(),
        "parameters": model.parameters,
        "load_seconds": time.perf_counter() - started,
        "peak_memory_loading": peak[0] if peak else None,
    }


def _run(source: Path, target: Path, scale: float) -> tuple[dict[str, float], list[int]]:
    """Run once; return the seconds of each part, and the peak memory."""
    model = _opened[0]
    device = TorchDevice(model.device)
    watch = Stopwatch(device)
    with peak_memory(device) as peak:
        cpu = time.process_time()
        with watch.listening():
            model.run(source, target, scale)
        cpu = time.process_time() - cpu
    return {**by_part(watch.seconds), "cpu": cpu}, peak


def by_part(stages: Mapping[str, float]) -> dict[str, float]:
    """Convert seconds per stage to seconds for each of :data:`PARTS` and their sum, "total"."""
    seconds = {part: stages.get(part, 0.0) for part in PARTS}
    seconds["other"] += sum(value for name, value in stages.items() if name not in PARTS)
    return {**seconds, "total": sum(seconds.values())}
