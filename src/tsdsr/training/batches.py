"""Assignment of samples to steps, processes and micro-batches."""

from __future__ import annotations

import atexit
import multiprocessing
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset, Subset

from tsdsr.errors import TSDSRError
from tsdsr.training.config import RunConfig
from tsdsr.training.interrupts import ignore_interrupts, interrupts_blocked
from tsdsr.training.samples import TrainingSample


def step_batches(
    config: RunConfig,
    dataset: Callable[[int], Dataset[TrainingSample]],
    first: int,
    until: int,
    rank: int = 0,
    processes: int = 1,
    workers: int = 0,
    pin_memory: bool = False,
) -> Generator[list[TrainingSample], None, None]:
    """Yield one process's micro-batches for every step, on the CPU. Sample numbers run on across phases.

    Close the generator to end the data loading processes; an error in it ends them, too.

    Args:
        config (RunConfig): phases and ``accumulation``.
        dataset (callable): maps a length to samples numbered from 0.
        first, until (int): first global step, and the one after the last.
        rank, processes (int): this process's rank, and the number of processes.
        workers (int): data loading processes.
        pin_memory (bool): whether to allocate batches in pinned memory.

    Yields:
        list of TrainingSample: ``config.accumulation`` micro-batches of one step.
    """
    first_item, begin = 0, 0
    for phase in config.phases:
        end = min(begin + phase.steps, until)
        micro = phase.batch_size // (processes * config.accumulation)
        items = _Items(first_item, max(begin, first) - begin, end - begin, micro, config.accumulation, rank, processes)
        if items:
            loader: DataLoader[TrainingSample] = DataLoader(
                Subset(dataset(items[-1] + 1), items),
                micro,
                num_workers=workers,
                pin_memory=pin_memory,
                generator=torch.Generator(),  # keeps the loader from using the global generator
                worker_init_fn=ignore_interrupts,
            )
            batches: list[TrainingSample] = []
            with _loading(loader) as loaded:
                for batch in _errors_of_workers(loaded):
                    batches.append(TrainingSample(*batch))
                    if len(batches) == config.accumulation:
                        yield batches
                        batches = []
        first_item, begin = first_item + phase.steps * phase.batch_size, begin + phase.steps


def device_batches(batches: Iterable[Sequence[TrainingSample]], device: torch.device) -> Iterator[list[TrainingSample]]:
    """Copy the images of all batches to a device, without waiting for it."""
    for step in batches:
        images = ((b.x_lq.to(device, non_blocking=True), b.x_hq.to(device, non_blocking=True)) for b in step)
        yield [b._replace(x_lq=x_lq, x_hq=x_hq) for b, (x_lq, x_hq) in zip(step, images, strict=True)]


class _Items(Sequence[int]):
    """Sample numbers of one process in one phase, computed when asked for: long phases have billions.

    Args:
        first_item (int): number of the phase's first sample.
        start, end (int): first step within the phase, and the one after the last.
        micro (int): samples of one process in one micro-batch.
        accumulation (int): micro-batches per step.
        rank, processes (int): this process's rank, and the number of processes.
    """

    def __init__(
        self, first_item: int, start: int, end: int, micro: int, accumulation: int, rank: int, processes: int
    ) -> None:
        self.first_item, self.start = first_item, start
        self.micro, self.accumulation, self.rank, self.processes = micro, accumulation, rank, processes
        self._length = max(0, end - start) * accumulation * micro

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, index: Any) -> Any:
        number = range(self._length)[index]
        batch, i = divmod(number, self.micro)
        batch += self.start * self.accumulation
        return self.first_item + batch * self.micro * self.processes + self.rank * self.micro + i


@contextmanager
def _loading(loader: DataLoader[TrainingSample]) -> Iterator[Iterator[Any]]:
    """Iterate over a loader; its processes end with the block, however it ends.

    torch ends them when the iterator is deleted, which an error's traceback can put off for ever, and by SIGTERM, which
    they ignore: then Python, which waits for child processes at exit, would never end. What is left is killed.
    """
    others = multiprocessing.active_children()
    batches: Any = None
    processes: list[Any] = []

    def end() -> None:
        try:
            if batches is not None and processes:
                batches._shutdown_workers()  # waits for them, but not for ever; torch has no public name for it
        finally:
            for process in processes:
                process.kill()

    atexit.register(end)  # for a run in a thread that does not keep the interpreter from its exit
    try:
        try:
            with interrupts_blocked():
                batches = iter(loader)
        finally:  # some may have been started before one could not be
            processes += [process for process in multiprocessing.active_children() if process not in others]
        yield batches
    finally:
        end()
        atexit.unregister(end)


def _errors_of_workers(loader: Iterable[Any]) -> Iterator[Any]:
    """Yield batches; an error of this package in a data loading process is raised without that process's traceback."""
    try:
        yield from loader
    except TSDSRError as error:
        if not str(error).startswith("Caught "):
            raise
        last = str(error).strip().splitlines()[-1]
        raise type(error)(last.partition(": ")[2] or last) from None
