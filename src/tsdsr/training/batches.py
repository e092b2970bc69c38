"""Assignment of samples to steps, processes and micro-batches."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch.utils.data import DataLoader, Dataset, Subset

from tsdsr.training.config import RunConfig
from tsdsr.training.run_lock import ignore_interrupts
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
) -> Iterator[list[TrainingSample]]:
    """Yield one process's micro-batches for every step, on the CPU. Sample numbers run on across phases.

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
        items = [
            first_item + ((step - begin) * config.accumulation + m) * micro * processes + i
            for step in range(max(begin, first), end)
            for m in range(config.accumulation)
            for i in range(rank * micro, (rank + 1) * micro)
        ]
        if items:
            loader: DataLoader[TrainingSample] = DataLoader(
                Subset(dataset(items[-1] + 1), items),
                micro,
                num_workers=workers,
                persistent_workers=workers > 0,
                pin_memory=pin_memory,
                generator=torch.Generator(),  # keeps the loader from using the global generator
                worker_init_fn=ignore_interrupts,
            )
            batches: list[TrainingSample] = []
            for batch in loader:
                batches.append(TrainingSample(*batch))
                if len(batches) == config.accumulation:
                    yield batches
                    batches = []
        first_item, begin = first_item + phase.steps * phase.batch_size, begin + phase.steps
