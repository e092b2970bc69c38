"""Disk cache of tensors, keyed by content, for text embeddings and latents that are slow to compute."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from tsdsr.errors import DatasetError
from tsdsr.files import atomic_path, write_text

_HEADER = "cache.json"


def read_maker(folder: Path) -> dict[str, str]:
    """Read the settings that produced the entries of a cache.

    Raises:
        DatasetError: they are missing or damaged.
    """
    header = folder / _HEADER
    try:
        maker = json.loads(header.read_bytes())
    except (OSError, ValueError) as error:
        raise DatasetError(f"{header}: cannot be read ({error}); remove the cache and make it again") from error
    if not isinstance(maker, dict) or not all(isinstance(value, str) for value in maker.values()):
        raise DatasetError(f"{header}: does not describe a cache; remove the cache and make it again")
    return maker


class TensorCache:
    """Append-only cache in safetensors shards; each entry is a set of named tensors.

    Entries are written one shard at a time, so a killed run loses at most the unfinished shard. The cache stores the
    settings of its entries and rejects other settings. Use it as a context manager to write.

    Args:
        folder (Path): folder of the shards; created by the first write.
        maker (mapping): settings that produced the entries, such as model, fingerprint, crop and precision.
        per_shard (int): number of entries per shard.

    Raises:
        DatasetError: The entries in the folder have other settings, or a shard is damaged.
    """

    def __init__(self, folder: Path, maker: Mapping[str, str], per_shard: int = 256) -> None:
        self.folder, self.per_shard = folder, per_shard
        self._maker = dict(maker)
        self._pending: dict[str, dict[str, Tensor]] = {}
        self._shard_of: dict[str, Path] = {}
        self._check_maker()
        for shard in self._shards():
            for name in self._names(shard):
                self._shard_of[name.rpartition("/")[0]] = shard

    def __enter__(self) -> TensorCache:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.flush()

    def __len__(self) -> int:
        return len(self._shard_of) + len(self._pending)

    def __contains__(self, key: str) -> bool:
        return key in self._shard_of or key in self._pending

    def __iter__(self) -> Iterator[str]:
        return iter([*self._shard_of, *self._pending])

    def __getitem__(self, key: str) -> dict[str, Tensor]:
        """Load the tensors of an entry.

        Raises:
            KeyError: The entry does not exist.
        """
        if key in self._pending:
            return dict(self._pending[key])
        shard = self._shard_of[key]
        with safe_open(shard, framework="pt") as file:
            names = [name for name in file.keys() if name.rpartition("/")[0] == key]  # noqa: SIM118
            return {name.rpartition("/")[2]: file.get_tensor(name) for name in names}

    def add(self, key: str, tensors: Mapping[str, Tensor]) -> None:
        """Add an entry. An existing entry is not changed."""
        if key in self:
            return
        self._pending[key] = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
        if len(self._pending) >= self.per_shard:
            self.flush()

    def flush(self) -> None:
        """Write the pending entries as a shard.

        Raises:
            FileWriteError: they cannot be written.
        """
        if not self._pending:
            return
        if not (self.folder / _HEADER).exists():
            write_text(self.folder / _HEADER, json.dumps(self._maker, indent=1, sort_keys=True))
        number = max((int(p.stem) for p in self._shards()), default=-1) + 1
        shard = self.folder / f"{number:05d}.safetensors"
        flat = {f"{key}/{name}": tensor for key, named in self._pending.items() for name, tensor in named.items()}
        with atomic_path(shard) as temporary:
            save_file(flat, temporary)
        self._shard_of.update(dict.fromkeys(self._pending, shard))
        self._pending.clear()

    def _check_maker(self) -> None:
        if not (self.folder / _HEADER).exists():
            if shards := self._shards():
                raise DatasetError(f"{shards[0]}: has no {_HEADER} that says what made it; choose another folder")
            return
        stored = read_maker(self.folder)
        differing = sorted(k for k in {*stored, *self._maker} if stored.get(k) != self._maker.get(k))
        if differing:
            what = ", ".join(f"{k} {stored.get(k)!r} instead of {self._maker.get(k)!r}" for k in differing)
            raise DatasetError(f"{self.folder}: this cache was made with {what}; choose another folder or remove it")

    def _shards(self) -> list[Path]:
        """Return the files of the cache, in the order of writing."""
        shards = sorted(self.folder.glob("*.safetensors"))
        for shard in shards:
            if not re.fullmatch(r"[0-9]{5,}", shard.stem):
                raise DatasetError(f"{shard}: is not a file of this cache; move it elsewhere")
        return shards

    @staticmethod
    def _names(shard: Path) -> list[str]:
        try:
            with safe_open(shard, framework="pt") as file:
                return list(file.keys())
        except (SafetensorError, OSError) as error:
            raise DatasetError(f"{shard}: is damaged ({error}); delete it and run again") from error
