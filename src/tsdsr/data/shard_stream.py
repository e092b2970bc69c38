"""Streaming the samples of WebDataset shards from local or remote storage, resumable at any batch."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import IterableDataset, get_worker_info

from tsdsr.data.datasets import CropSettings, cut_crop
from tsdsr.data.shard_file import ShardReader, ShardSample
from tsdsr.data.shards import hash_keys, read_index_with_keys
from tsdsr.errors import DatasetError, InvalidInputError
from tsdsr.remote_files import open_url
from tsdsr.wording import counted


class ShardStream(IterableDataset[ShardSample]):
    """Resumable stream of the samples of all shards, split by rank and loader process without overlap or loss.

    Each epoch visits every sample once. Shards are distributed over the loader processes of all ranks in an order that
    changes with the epoch; the samples of a shard are shuffled too. To resume, pass the number of batches that this
    rank has consumed. The stream then continues exactly, provided that the numbers of ranks and loader processes are
    unchanged.

    Args:
        url (str): folder of the shards.
        seed (int): random seed of the shuffling.
        rank (int): rank of this process, below ``world``.
        world (int): number of training processes.
        batch_size (int): batch size of the DataLoader.
        skip_batches (int): number of batches already consumed on this rank.
        epochs (int | None): number of epochs; None streams forever.

    Raises:
        DatasetError: The index cannot be read.
    """

    def __init__(
        self,
        url: str,
        seed: int = 0,
        rank: int = 0,
        world: int = 1,
        batch_size: int = 1,
        skip_batches: int = 0,
        epochs: int | None = None,
    ) -> None:
        if not 0 <= rank < world:
            raise InvalidInputError(f"rank must lie between 0 and {world - 1}, got {rank}")
        index = read_index_with_keys(url)
        self.shards = [(shard, samples) for shard, samples, _ in index]
        self._keys = {shard: keys for shard, _, keys in index}
        self.seed, self.rank, self.world = seed, rank, world
        self.batch_size, self.skip_batches, self.epochs = batch_size, skip_batches, epochs

    def __len__(self) -> int:
        """Number of samples in one epoch, over all ranks."""
        return sum(samples for _, samples in self.shards)

    def __iter__(self) -> Iterator[ShardSample]:
        info = get_worker_info()
        worker, workers = (info.id, info.num_workers) if info else (0, 1)
        # The loader polls its processes in turn, starting at process 0. After a resume, process 0 takes the role of the
        # process whose turn is next.
        role = (worker + self.skip_batches) % workers
        delivered = (self.skip_batches - role + workers - 1) // workers
        consumer, consumers = self.rank * workers + role, self.world * workers
        if len(self.shards) < consumers:
            few = counted(len(self.shards), "shard is", "shards are")
            raise DatasetError(f"{few} too few for {consumers} loader processes; use fewer")
        skip = delivered * self.batch_size
        epoch = 0
        while self.epochs is None or epoch < self.epochs:
            for number in self._order(epoch)[consumer::consumers]:
                url, samples = self.shards[number]
                if skip >= samples:
                    skip -= samples
                    continue
                yield from self._shard(url, samples, epoch, number, skip)
                skip = 0
            epoch += 1

    def _order(self, epoch: int) -> Sequence[int]:
        order: list[int] = np.random.default_rng((self.seed, epoch)).permutation(len(self.shards)).tolist()
        return order

    def _shard(self, url: str, samples: int, epoch: int, number: int, skip: int) -> Iterator[ShardSample]:
        order = np.random.default_rng((self.seed, epoch, number)).permutation(samples)
        with open_url(url) as file:
            reader = ShardReader(file, url)
            if len(reader) != samples:
                raise DatasetError(
                    f"{url}: holds {counted(len(reader), 'sample')}, the index says {samples}; write the shards again"
                )
            if self._keys[url] not in (None, hash_keys(reader.keys)):
                raise DatasetError(f"{url}: holds other samples than the index says; write the shards again")
            for i in order[skip:]:
                yield dataclasses.replace(reader.read(int(i)), epoch=epoch)


class ShardCrops(IterableDataset[dict[str, Any]]):
    """Crops from a :class:`ShardStream`: ``{"key": str, "image": Tensor (3, size, size), "prompt": str}``.

    A crop depends only on the seed, the epoch and the key of the sample. Images are checked when shards are written. An
    unusable image here is an error, because skipping it would shift all later positions.

    Args:
        stream (ShardStream): source of the samples.
        settings (CropSettings): crop settings.
    """

    def __init__(self, stream: ShardStream, settings: CropSettings) -> None:
        self.stream = stream
        self.settings = settings

    def __iter__(self) -> Iterator[dict[str, Any]]:
        for sample in self.stream:
            pixels = sample.pixels()
            if min(pixels.shape[:2]) < self.settings.size:
                raise DatasetError(f"sample {sample.key}: is smaller than the crops of {self.settings.size} pixels")
            rng = np.random.default_rng((self.stream.seed, sample.epoch, *os.fsencode(sample.key)))
            image: Tensor = cut_crop(partial(_same, pixels), self.settings, rng)
            yield {"key": sample.key, "image": image, "prompt": sample.prompt or ""}


def _same(pixels: np.ndarray) -> np.ndarray:
    return pixels


def shard_loader(dataset: ShardCrops, workers: int) -> torch.utils.data.DataLoader[dict[str, Any]]:
    """Create a DataLoader whose batches :class:`ShardStream` can resume.

    Args:
        dataset (ShardCrops): the dataset; its stream defines the batch size.
        workers (int): number of loader processes.
    """
    return torch.utils.data.DataLoader(dataset, dataset.stream.batch_size, num_workers=workers, drop_last=True)
