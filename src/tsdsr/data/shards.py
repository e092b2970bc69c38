"""WebDataset shards: writing image folders to tar files, and streaming them from local or remote storage.

In a shard, the files of a sample share a name. A folder of shards has an ``index.json`` with the number of samples in
each shard, so that a stream can start at any position without reading the samples before it.
"""

from __future__ import annotations

import dataclasses
import io
import json
import tarfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import IO, Any

import fsspec
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import IterableDataset, get_worker_info

from tsdsr.data.datasets import CropSettings, cut_crop
from tsdsr.data.sources import PHOTO_SUFFIXES, UnreadableFiles
from tsdsr.errors import DatasetError, ImageError, InvalidInputError
from tsdsr.files import StrPath, atomic_path
from tsdsr.images.reading import decode_rgb

INDEX = "index.json"


@dataclass(frozen=True)
class ShardSample:
    """One sample of a shard.

    Attributes:
        key (str): name, unique in the dataset.
        epoch (int): number of completed passes over the dataset.
        image (bytes): content of the image file, unchanged.
        suffix (str): suffix of the image file, such as ".png".
        prompt (str | None): text prompt.
    """

    key: str
    image: bytes
    suffix: str
    prompt: str | None = None
    epoch: int = 0

    def pixels(self) -> np.ndarray:
        """Decode the image to pixels (H, W, 3) uint8, as :func:`~tsdsr.images.reading.read_rgb` does.

        Raises:
            DatasetError: The image cannot be decoded.
        """
        try:
            return decode_rgb(self.image, f"sample {self.key}")
        except ImageError as error:
            raise DatasetError(str(error)) from error


def write_shards(
    images: Iterable[Path],
    output: StrPath,
    root: StrPath,
    per_shard: int = 200,
    prompts: StrPath | None = None,
    min_side: int = 1,
) -> Iterator[Path]:
    """Pack image files, unchanged, into ``000000.tar``, ``000001.tar``, … and write the index at the end.

    Each image is decoded once as a check. Unusable images are reported and skipped; too many of them are an error.

    Args:
        images (iterable of Path): image files.
        output (str | PathLike): folder of the shards; complete shards in it are kept.
        root (str | PathLike): keys are the paths of the images relative to this folder, without suffix.
        per_shard (int): number of samples per shard.
        prompts (str | PathLike | None): folder with one text file per key; an image without one has no prompt.
        min_side (int): images with a shorter side are skipped.

    Yields:
        Path: each shard when it is complete.

    Raises:
        InvalidInputError: Two images share a key.
        DatasetError: Too many images cannot be used.
    """
    output = Path(output)
    root = Path(root)
    prompts = None if prompts is None else Path(prompts)
    paths, keys = _usable(list(images), min_side), set()
    entries = []
    for number, start in enumerate(range(0, len(paths), per_shard)):
        chunk = paths[start : start + per_shard]
        shard = output / f"{number:06d}.tar"
        for path in chunk:
            if (key := sample_key(path, root)) in keys:
                raise InvalidInputError(f"{path}: another image is called {key!r} too; rename one of them")
            keys.add(key)
        if not _holds(shard, {sample_key(path, root) for path in chunk}):
            with atomic_path(shard) as temporary, tarfile.open(temporary, "w") as tar:
                for path in chunk:
                    _add(tar, path, sample_key(path, root), prompts)
        entries.append({"name": shard.name, "samples": len(chunk)})
        yield shard
    with atomic_path(output / INDEX) as temporary:
        temporary.write_text(json.dumps({"format": 1, "shards": entries}, indent=1))


def _holds(shard: Path, keys: set[str]) -> bool:
    """Return whether a finished shard holds exactly these samples."""
    if not shard.is_file():
        return False
    with tarfile.open(shard, "r:") as tar:
        return {_split(name)[0] for name in tar.getnames()} == keys


def _split(name: str) -> tuple[str, str]:
    """Split a member name into key and suffix. The suffix begins at the first dot of the last path component."""
    path = PurePosixPath(name)
    stem, _, suffix = path.name.partition(".")
    return str(path.with_name(stem)), f".{suffix}"


def _usable(paths: list[Path], min_side: int) -> list[Path]:
    health = UnreadableFiles(paths)
    return [path for path in paths if health.read(path, min_side) is not None]


def sample_key(path: Path, root: Path) -> str:
    """Return an image's key: its path relative to ``root``, without suffix and dots (WebDataset splits at dots)."""
    return path.relative_to(root).with_suffix("").as_posix().replace(".", "_")


def _add(tar: tarfile.TarFile, path: Path, key: str, prompts: Path | None) -> None:
    members = [(path.suffix.lower(), path.read_bytes())]
    text = prompts / f"{key}.txt" if prompts else None
    if text is not None and text.is_file():
        members.append((".txt", text.read_bytes()))
    for suffix, content in members:
        info = tarfile.TarInfo(key + suffix)
        info.size = len(content)
        tar.addfile(info, io.BytesIO(content))


def read_index(url: str) -> list[tuple[str, int]]:
    """Read (URL, number of samples) of each shard in a folder, local or at any URL that fsspec supports.

    Raises:
        DatasetError: The index is missing or damaged.
    """
    base = url.rstrip("/")
    try:
        with fsspec.open(f"{base}/{INDEX}", "rb") as file:
            shards = json.load(file)["shards"]
        return [(f"{base}/{s['name']}", int(s["samples"])) for s in shards]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DatasetError(f"{base}/{INDEX}: cannot be read ({error}); make shards with 'tsdsr data shard'") from error


class ShardReader:
    """Random access to the samples of one shard, numbered in the order of writing.

    Args:
        file (binary file): the tar file, seekable.
        url (str): URL used in messages.
    """

    def __init__(self, file: IO[bytes], url: str) -> None:
        try:
            self._tar = tarfile.open(fileobj=file, mode="r:")  # noqa: SIM115  (lives as long as the reader)
            self._samples: dict[str, dict[str, tarfile.TarInfo]] = {}
            for member in self._tar:
                key, suffix = _split(member.name)
                self._samples.setdefault(key, {})[suffix] = member
        except tarfile.TarError as error:
            raise DatasetError(f"{url}: is not a readable tar file ({error})") from error
        self._keys = list(self._samples)

    def __len__(self) -> int:
        return len(self._keys)

    def read(self, number: int) -> ShardSample:
        """Read the sample with this number."""
        key = self._keys[number]
        members = self._samples[key]
        suffix = next((s for s in members if s in PHOTO_SUFFIXES), None)
        if suffix is None:
            raise DatasetError(f"sample {key}: has no image")
        prompt = self._content(members[".txt"]).decode() if ".txt" in members else None
        return ShardSample(key, self._content(members[suffix]), suffix, prompt)

    def _content(self, member: tarfile.TarInfo) -> bytes:
        file = self._tar.extractfile(member)
        assert file is not None
        return file.read()


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
        self.shards = read_index(url)
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
            raise DatasetError(f"{len(self.shards)} shards are too few for {consumers} loader processes; use fewer")
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
                    f"{url}: holds {len(reader)} samples, the index says {samples}; write the shards again"
                )
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
            rng = np.random.default_rng((self.stream.seed, sample.epoch, *sample.key.encode()))
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
