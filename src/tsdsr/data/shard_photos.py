"""The photographs of many shards as a sequence that needs little memory: numbers and names, no objects."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tsdsr.data.photographs import ShardPhoto
from tsdsr.data.shard_file import ShardEntry
from tsdsr.errors import ImageError

logger = logging.getLogger(__name__)

_THREADS, _CHUNK = 16, 1024
"""Texts are read by so many threads, and so many are waited for together."""


class _Columns:
    """What is known of all photographs of some shards, in arrays: 48 bytes a photograph besides its name."""

    def __init__(self, entries: Sequence[tuple[str, ShardEntry]]) -> None:
        self.shards = tuple(url for url, _ in entries)
        self.contents = tuple(entry.content for _, entry in entries)
        counts = [len(entry.files) for _, entry in entries]
        self.shard = np.repeat(np.arange(len(entries), dtype=np.int64), counts)
        places = [entry.places for _, entry in entries]
        self.places = np.concatenate(places) if places else np.empty((0, 4), np.int64)
        names = [name.encode("utf-8", "surrogateescape") for _, entry in entries for name in entry.files]
        self.names = b"".join(names)
        self.ends = np.cumsum([len(name) for name in names], dtype=np.int64)

    def photo(self, row: int) -> ShardPhoto:
        start = int(self.ends[row - 1]) if row else 0
        name = self.names[start : int(self.ends[row])].decode("utf-8", "surrogateescape")
        return ShardPhoto(self.shards[self.shard[row]], name, *self.places[row].tolist())


def _prompt(photo: ShardPhoto) -> str:
    try:
        return photo.read_prompt()
    except ImageError as error:
        logger.warning("left out: %s", error)
        return ""


class ShardPhotos(Sequence[ShardPhoto]):
    """Photographs in shards. An item is made when it is asked for; parts of the sequence share its memory.

    Args:
        entries (sequence of (str, ShardEntry)): path or URL, and index, of each shard.
    """

    def __init__(self, entries: Sequence[tuple[str, ShardEntry]]) -> None:
        self._columns = _Columns(entries)
        self._rows: NDArray[np.int64] = np.arange(len(self._columns.ends))

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, number: Any) -> Any:
        if isinstance(number, slice):
            return self.take(range(len(self))[number])
        return self._columns.photo(int(self._rows[number]))

    def take(self, numbers: Sequence[int]) -> ShardPhotos:
        """Return the photographs with these numbers."""
        part = object.__new__(ShardPhotos)
        part._columns, part._rows = self._columns, self._rows[np.asarray(numbers, dtype=np.int64)]
        return part

    @property
    def total_bytes(self) -> int:
        """Size of the image files."""
        return int(self._columns.places[self._rows, 1].sum())

    def texts(self) -> Iterator[str]:
        """Yield the prompts of all photographs that have one, in order; those that are not UTF-8 are reported."""
        rows = self._rows[self._columns.places[self._rows, 3] > 0]
        with ThreadPoolExecutor(_THREADS) as pool:
            for start in range(0, len(rows), _CHUNK):
                photos = [self._columns.photo(int(row)) for row in rows[start : start + _CHUNK]]
                yield from filter(None, pool.map(_prompt, photos))

    def fingerprint(self) -> str:
        """Return a hash of the shards' indexes and of which photographs are chosen; no photograph is read."""
        columns = self._columns
        used = np.unique(columns.shard[self._rows])
        digest = hashlib.sha256("\n".join(columns.contents[shard] for shard in used).encode())
        shards = np.searchsorted(used, columns.shard[self._rows])
        for column in (shards, columns.places[self._rows]):
            digest.update(column.astype("<i8").tobytes())
        return digest.hexdigest()


@dataclass(frozen=True)
class ShardSource:
    """Photographs in shards that are drawn with a common weight.

    Attributes:
        name (str): name used in messages.
        images (ShardPhotos): the photographs.
        weight (float): sampling weight relative to other sources.
    """

    name: str
    images: ShardPhotos
    weight: float = 1.0

    def take(self, numbers: Sequence[int]) -> ShardSource:
        """Return a source of the photographs with these numbers."""
        return replace(self, images=self.images.take(numbers))
