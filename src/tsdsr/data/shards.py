"""WebDataset shards: writing image folders to tar files, and streaming them from local or remote storage.

In a shard, the files of a sample share a name. A folder of shards has an ``index.json`` with the number of samples in
each shard, so that a stream can start at any position without reading the samples before it.
"""

from __future__ import annotations

import dataclasses
import json
import logging
import os
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import IterableDataset, get_worker_info

from tsdsr.data.captions import OnFailure
from tsdsr.data.datasets import CropSettings, cut_crop
from tsdsr.data.shard_file import SampleFiles, ShardReader, ShardSample, holds, write_shard
from tsdsr.data.sources import sample_keys
from tsdsr.errors import DatasetError, FileWriteError, ImageError, InvalidInputError, MissingDependencyError
from tsdsr.files import StrPath, as_path, require_writable_folder, write_text
from tsdsr.hashing import hash_bytes
from tsdsr.wording import counted

logger = logging.getLogger(__name__)

INDEX = "index.json"


def _log_failure(message: str) -> None:
    logger.warning("left out: %s", message)


def write_shards(
    images: Iterable[Path],
    output: StrPath,
    root: StrPath,
    per_shard: int = 200,
    prompts: StrPath | None = None,
    min_side: int = 1,
    overwrite: bool = False,
    on_failure: OnFailure = _log_failure,
    on_image: Callable[[int, int], None] = lambda done, total: None,
) -> Iterator[Path]:
    """Pack image files, unchanged, into ``000000.tar``, ``000001.tar``, … and write the index at the end.

    Each image is decoded once as a check. Shards that are there are kept if they hold exactly these samples, so that an
    interrupted run can be repeated. At the end, the folder holds the shards of the index and no others.

    Args:
        images (iterable of Path): image files.
        output (str | PathLike): folder of the shards.
        root (str | PathLike): keys are the paths of the images relative to this folder, without suffix.
        per_shard (int): number of samples per shard.
        prompts (str | PathLike | None): folder with one text file per key; an image without one has no prompt.
        min_side (int): images with a shorter side are left out.
        overwrite (bool): replace shards that hold something else.
        on_failure (callable): called with a message for each image that cannot be read; it is left out.
        on_image (callable): called with the numbers of checked images and of all images.

    Yields:
        Path: each shard when it is complete.

    Raises:
        InvalidInputError: Two images share a key, or a folder is missing or cannot be written.
        DatasetError: No image can be used, no image has a prompt, or the folder holds other shards.
        FileWriteError: A shard cannot be written.
    """
    output = require_writable_folder(output)
    if per_shard < 1:
        raise InvalidInputError(f"per_shard must be at least 1, got {per_shard}")
    keys = sample_keys(images, Path(root))
    texts = {} if prompts is None else _prompt_files(keys.values(), as_path(prompts, "prompts"))
    samples = [SampleFiles(key, path, texts.get(key)) for path, key in keys.items()]
    samples = _usable(samples, min_side, on_failure, on_image)
    chunks = [samples[start : start + per_shard] for start in range(0, len(samples), per_shard)]
    shards = {output / f"{number:06d}.tar": chunk for number, chunk in enumerate(chunks)}
    index = [_index_entry(shard.name, [sample.key for sample in chunk]) for shard, chunk in shards.items()]
    _make_room(output, shards, index, overwrite)
    for shard, chunk in shards.items():
        if not shard.is_file():
            write_shard(shard, chunk)
        yield shard
    write_text(output / INDEX, json.dumps({"format": 1, "shards": index}, indent=1))


def _prompt_files(keys: Collection[str], folder: Path) -> dict[str, Path]:
    if not folder.is_dir():
        raise InvalidInputError(f"{folder}: no such folder of prompts")
    found = {key: path for key in keys if os.path.isfile(path := folder / f"{key}.txt")}
    if not found:
        raise DatasetError(f"{folder}: holds no prompt of {counted(len(keys), 'image')}, e.g. {next(iter(keys))}.txt")
    if len(found) < len(keys):
        logger.warning("%s have no prompt in %s", f"{len(keys) - len(found)} of {len(keys)} images", folder)
    return found


def _usable(
    samples: Sequence[SampleFiles], min_side: int, on_failure: OnFailure, on_image: Callable[[int, int], None]
) -> list[SampleFiles]:
    """Return the samples that can be read and are large enough."""
    usable: list[SampleFiles] = []
    small: list[SampleFiles] = []
    for done, sample in enumerate(samples, 1):
        try:
            (usable if sample.check(min_side) else small).append(sample)
        except (ImageError, MissingDependencyError, DatasetError) as error:
            on_failure(str(error))
        on_image(done, len(samples))
    if small:
        what = counted(len(small), "image")
        logger.warning("left out %s with a side below %d pixels, e.g. %s", what, min_side, small[0].image)
    if not usable:
        unread = len(samples) - len(small)
        reasons = {f"{len(small)} with a side below {min_side} pixels": small, f"{unread} unreadable": unread}
        why = ", ".join(reason for reason, count in reasons.items() if count)
        raise DatasetError(f"none of {counted(len(samples), 'image')} can be used: {why}")
    return usable


def _make_room(
    output: Path, shards: Mapping[Path, Sequence[SampleFiles]], index: list[dict[str, Any]], overwrite: bool
) -> None:
    """Check that the folder holds nothing but shards of this set; with ``overwrite``, remove others."""
    try:
        there = sorted(output.glob("*.tar"))
    except OSError as error:
        raise DatasetError(f"{output}: cannot be read ({error.strerror or error})") from error
    for path in there:
        if not re.fullmatch(r"\d{6}\.tar", path.name):
            raise DatasetError(f"{path}: is not a shard of this set; choose another folder")
    others = [shard for shard in there if shard not in shards or not holds(shard, shards[shard])]
    if os.path.lexists(output / INDEX) and not _describes(output / INDEX, index):
        others.insert(0, output / INDEX)  # removed first, so that no index describes other shards
    if others and not overwrite:
        raise DatasetError(
            f"{output}: holds shards of other images, prompts or settings ({others[0].name} is not of this set); "
            "choose another folder, or replace them with --overwrite"
        )
    for path in others:
        try:
            path.unlink()
        except OSError as error:
            raise FileWriteError(f"{path}: cannot be removed ({error.strerror or error})") from error


def _index_entry(name: str, keys: Sequence[str]) -> dict[str, Any]:
    return {"name": name, "samples": len(keys), "keys": hash_keys(keys)}


def hash_keys(keys: Sequence[str]) -> str:
    """Return a hash of the keys of a shard, by which an index of another set is noticed."""
    return hash_bytes("\n".join(keys).encode("utf-8", "surrogateescape"))[:16]


def _describes(path: Path, index: list[dict[str, Any]]) -> bool:
    """Whether an index file is that of these shards; older ones have no hashes of keys."""
    try:
        pairs = zip(json.loads(path.read_bytes())["shards"], index, strict=True)
        return all({"keys": new["keys"], **old} == new for old, new in pairs)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return False


def read_index(url: str) -> list[tuple[str, int]]:
    """Read (URL, number of samples) of each shard in a folder, local or at any URL that fsspec supports.

    Raises:
        DatasetError: The index is missing or damaged.
        MissingDependencyError: fsspec lacks the package for this kind of URL.
    """
    return [(shard, samples) for shard, samples, _ in _read_index(url)]


def _read_index(url: str) -> list[tuple[str, int, str | None]]:
    """Read (URL, number of samples, hash of the keys) of each shard."""
    if not url.strip():
        raise InvalidInputError("the folder of the shards is empty; give a path, or '.' for the current folder")
    base = url.rstrip("/")
    try:
        with fsspec.open(f"{base}/{INDEX}", "rb") as file:
            shards = json.load(file)["shards"]
        return [(f"{base}/{s['name']}", int(s["samples"]), s.get("keys")) for s in shards]
    except ImportError as error:
        raise MissingDependencyError(f"{url}: {error}") from error
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DatasetError(f"{base}/{INDEX}: cannot be read ({error}); make shards with 'tsdsr data shard'") from error


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
        index = _read_index(url)
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
        with fsspec.open(url, "rb") as file:
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
