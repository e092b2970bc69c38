"""One shard: a tar file in WebDataset's layout, where the files of a sample share a name."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO

import numpy as np

from tsdsr.data.captions import decode_prompt
from tsdsr.errors import DatasetError, ImageError
from tsdsr.files import atomic_path
from tsdsr.images.formats import FORMATS
from tsdsr.images.reading import decode_rgb


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


@dataclass(frozen=True)
class SampleFiles:
    """The files that a sample is made from.

    Attributes:
        key (str): name, unique in the dataset.
        image (Path): image file.
        prompt (Path | None): text file.
    """

    key: str
    image: Path
    prompt: Path | None = None

    def check(self, min_side: int) -> bool:
        """Decode image and prompt, and return whether both sides of the image have at least ``min_side`` pixels.

        Raises:
            ImageError, MissingDependencyError: The image cannot be decoded.
            DatasetError: A file cannot be read, or the prompt is not UTF-8.
        """
        if self.prompt is not None:
            decode_prompt(read_bytes(self.prompt), str(self.prompt))
        height, width = decode_rgb(read_bytes(self.image), str(self.image)).shape[:2]
        return bool(min(height, width) >= min_side)

    def members(self) -> Iterator[tuple[str, bytes]]:
        """Yield name and content of each member of the tar file.

        Raises:
            DatasetError: A file cannot be read.
        """
        yield self.key + self.image.suffix.lower(), read_bytes(self.image)
        if self.prompt is not None:
            yield f"{self.key}.txt", read_bytes(self.prompt)


def read_bytes(path: Path) -> bytes:
    """Read a file.

    Raises:
        DatasetError: It cannot be read.
    """
    try:
        return path.read_bytes()
    except OSError as error:
        raise DatasetError(f"{path}: cannot be read ({error.strerror or error})") from error


def write_shard(path: Path, samples: Sequence[SampleFiles]) -> None:
    """Write a tar file of samples, atomically.

    Raises:
        DatasetError: A file of a sample cannot be used.
        FileWriteError: The tar file cannot be written.
    """
    with atomic_path(path) as temporary, tarfile.open(temporary, "w", encoding="utf-8") as tar:
        for sample in samples:
            for name, content in sample.members():
                info = tarfile.TarInfo(name)
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content))


def holds(path: Path, samples: Sequence[SampleFiles]) -> bool:
    """Return whether a tar file holds exactly these samples, with the present content of their files."""
    try:
        with tarfile.open(path, "r:", encoding="utf-8") as tar:
            found = ((member.name, _member(tar, member)) for member in tar)
            wanted = (member for sample in samples for member in sample.members())
            return all(a == b for a, b in zip(found, wanted, strict=True))
    except (OSError, ValueError, tarfile.TarError):  # ValueError: one has more members than the other
        return False


def _member(tar: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    file = tar.extractfile(member)
    return file.read() if file is not None else b""


class ShardReader:
    """Random access to the samples of one shard, numbered in the order of writing.

    Args:
        file (binary file): the tar file, seekable.
        url (str): URL used in messages.

    Raises:
        DatasetError: It is not a readable tar file.
    """

    def __init__(self, file: IO[bytes], url: str) -> None:
        self._url = url
        try:
            self._tar = tarfile.open(fileobj=file, mode="r:", encoding="utf-8")  # noqa: SIM115  (as long as the reader)
            self._samples: dict[str, dict[str, tarfile.TarInfo]] = {}
            for member in self._tar:
                key, suffix = _split(member.name)
                self._samples.setdefault(key, {})[suffix] = member
        except tarfile.TarError as error:
            raise DatasetError(f"{url}: is not a readable tar file ({error})") from error
        self.keys = list(self._samples)

    def __len__(self) -> int:
        return len(self.keys)

    def read(self, number: int) -> ShardSample:
        """Read the sample with this number.

        Raises:
            DatasetError: The sample is damaged.
        """
        key = self.keys[number]
        members = self._samples[key]
        suffix = next((s for s in members if s in FORMATS), None)
        if suffix is None:
            raise DatasetError(f"sample {key}: has no image")
        try:
            image = _member(self._tar, members[suffix])
            text = _member(self._tar, members[".txt"]) if ".txt" in members else None
        except tarfile.TarError as error:
            raise DatasetError(f"{self._url}: sample {key} is damaged ({error}); write the shards again") from error
        return ShardSample(key, image, suffix, None if text is None else decode_prompt(text, f"sample {key}"))


def _split(name: str) -> tuple[str, str]:
    """Split a member name into key and suffix. The suffix begins at the first dot of the last path component."""
    path = PurePosixPath(name)
    stem, _, suffix = path.name.partition(".")
    return str(path.with_name(stem)), f".{suffix}"
