"""One shard: a tar file in WebDataset's layout, where the files of a sample share a name, and what its index says."""

from __future__ import annotations

import errno
import hashlib
import io
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from tsdsr.data.photographs import decode_prompt
from tsdsr.errors import DatasetError, FileReadError
from tsdsr.files import atomic_path
from tsdsr.hashing import hash_bytes
from tsdsr.images.formats import FORMATS
from tsdsr.images.reading import decode_rgb
from tsdsr.remote_files import find_file, local_path, read_bytes

_BLOCK = 2**16
"""Bytes of one request when the headers of a remote shard are read."""


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
            DatasetError: A file cannot be read, the prompt is not UTF-8, or the image has no suffix of an image, by
                which readers of shards know it.
        """
        if self.image.suffix.lower() not in FORMATS:
            raise DatasetError(f"{self.image}: images in shards need an image suffix; rename it, e.g. to .jpg")
        if self.prompt is not None:
            decode_prompt(_content(self.prompt), str(self.prompt))
        height, width = decode_rgb(_content(self.image), str(self.image)).shape[:2]
        return bool(min(height, width) >= min_side)

    def members(self) -> Iterator[tuple[str, bytes]]:
        """Yield name and content of each member of the tar file.

        Raises:
            DatasetError: A file cannot be read.
        """
        yield self.key + self.image.suffix.lower(), _content(self.image)
        if self.prompt is not None:
            yield f"{self.key}.txt", _content(self.prompt)


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise DatasetError(f"{path}: cannot be read ({error.strerror or error})") from error


def write_shard(path: Path, samples: Sequence[SampleFiles]) -> str:
    """Write a tar file of samples, atomically, and return the hash of its content.

    Raises:
        DatasetError: A file of a sample cannot be used.
        FileWriteError: The tar file cannot be written.
    """
    digest = hashlib.sha256()
    with atomic_path(path) as temporary, tarfile.open(temporary, "w", encoding="utf-8") as tar:
        for sample in samples:
            for name, content in sample.members():
                info = tarfile.TarInfo(name)
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content))
                _add(digest, name, content)
    return digest.hexdigest()[:32]


def content_if_same(path: Path, samples: Sequence[SampleFiles]) -> str | None:
    """Return the hash of a tar file's content if it holds exactly these samples, as their files are now; else None."""
    digest = hashlib.sha256()
    try:
        with tarfile.open(path, "r:", encoding="utf-8") as tar:
            found = ((member.name, _member(tar, member)) for member in tar)
            wanted = (member for sample in samples for member in sample.members())
            for there, member in zip(found, wanted, strict=True):
                if there != member:
                    return None
                _add(digest, *member)
    except (OSError, ValueError, tarfile.TarError):  # ValueError: one has more members than the other
        return None
    return digest.hexdigest()[:32]


def _add(digest: Any, name: str, content: bytes) -> None:
    digest.update(f"{name}\n{len(content)}\n".encode("utf-8", "surrogateescape") + content)


def _member(tar: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    file = tar.extractfile(member)
    return file.read() if file is not None else b""


@dataclass(frozen=True)
class ShardEntry:
    """What an index says of one shard.

    Attributes:
        name (str): name of the tar file.
        keys (str): hash of the samples' keys.
        bytes (int): size of the tar file.
        content (str): hash of its content, or of its headers if it was not written by this package.
        files (tuple of str): name of each sample's image file.
        places (array): int64 (samples, 4): offset and size of the image file, then of its text, in bytes.
    """

    name: str
    keys: str
    bytes: int
    content: str
    files: tuple[str, ...]
    places: NDArray[np.int64]

    def to_plain(self) -> dict[str, Any]:
        """Return the entry as JSON values."""
        columns = dict(zip(_COLUMNS, self.places.T.tolist(), strict=True))
        return {**vars(self), "samples": len(self.files), "places": columns}

    @classmethod
    def from_plain(cls, plain: Mapping[str, Any]) -> ShardEntry:
        """Create from the output of :meth:`to_plain`.

        Raises:
            ValueError, KeyError, TypeError: it is damaged.
        """
        places = np.array([plain["places"][name] for name in _COLUMNS], dtype=np.int64).T.reshape(-1, len(_COLUMNS))
        files = tuple(map(str, plain["files"]))
        if not len(places) == len(files) == plain["samples"]:
            raise ValueError(f"{plain['name']}: its columns differ in length")
        return cls(plain["name"], plain["keys"], int(plain["bytes"]), plain["content"], files, places)


_COLUMNS = ("offset", "size", "text_offset", "text_size")


def hash_keys(keys: Sequence[str]) -> str:
    """Return a hash of the keys of a shard, by which an index of another set is noticed."""
    return hash_bytes("\n".join(keys).encode("utf-8", "surrogateescape"))[:16]


def scan_shard(url: str) -> ShardEntry:
    """Index a shard by its headers; the content of its files is not read. Samples without an image are left out.

    Args:
        url (str): path, or URL that fsspec supports.

    Raises:
        DatasetError: It cannot be read, or is no tar file without compression.
        MissingDependencyError: fsspec lacks the package for this kind of URL.
    """
    samples: dict[str, dict[str, tarfile.TarInfo]] = {}
    digest = hashlib.sha256()
    try:
        with _opened(url) as file:
            size = file.seek(0, io.SEEK_END)
            file.seek(0)
            with tarfile.open(fileobj=file, mode="r:", encoding="utf-8") as tar:
                for member in filter(tarfile.TarInfo.isreg, tar):
                    key, suffix = _split(member.name)
                    samples.setdefault(key, {}).setdefault(suffix.lower(), member)
                    facts = f"{member.name}\n{member.size} {member.mtime} {member.chksum}\n"
                    digest.update(facts.encode("utf-8", "surrogateescape"))
                _require_end(file, tar.offset)
    except tarfile.TarError as error:
        raise DatasetError(f"{url}: is not a readable uncompressed tar file ({error})") from error
    except FileReadError as error:
        raise DatasetError(str(error)) from error
    except OSError as error:
        raise DatasetError(f"{url}: cannot be read ({error.strerror or error})") from error
    found = [(key, image, members.get(".txt")) for key, members in samples.items() if (image := _image(members))]
    places = [
        (image.offset_data, image.size, text.offset_data if text else 0, text.size if text else 0)
        for _, image, text in found
    ]
    files = tuple(image.name for _, image, _ in found)
    keys, name = hash_keys([key for key, _, _ in found]), url.rpartition("/")[2]
    table = np.array(places, dtype=np.int64).reshape(-1, len(_COLUMNS))
    return ShardEntry(name, keys, size, digest.hexdigest()[:32], files, table)


def _require_end(file: IO[bytes], offset: int) -> None:
    """Check that a tar file ends at an offset. Python's reader takes a damaged header for the end.

    Raises:
        TarError: something follows that is not the end.
    """
    file.seek(offset)
    if any(file.read(tarfile.BLOCKSIZE)):
        raise tarfile.ReadError(f"damaged or cut off at byte {offset}")


def _image(members: Mapping[str, tarfile.TarInfo]) -> tarfile.TarInfo | None:
    return next((member for suffix, member in members.items() if suffix in FORMATS), None)


def _split(name: str) -> tuple[str, str]:
    """Split a member name into key and suffix. The suffix begins at the first dot of the last path component."""
    path = PurePosixPath(name)
    stem, _, suffix = path.name.partition(".")
    return str(path.parent / stem), f".{suffix}"


def _opened(url: str) -> IO[bytes]:
    """Open a shard to read its headers."""
    if (path := local_path(url)) is not None:
        return path.open("rb")
    return io.BufferedReader(_RemoteShard(url), _BLOCK)


class _RemoteShard(io.RawIOBase):
    """A remote file that is read in ranges: fsspec's own files would fetch what lies between the headers, too."""

    def __init__(self, url: str) -> None:
        file = find_file(url)
        if file is None:
            raise FileNotFoundError(errno.ENOENT, "no such file")
        self._url, self._size, self._place = url, file.size, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._place = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._place, io.SEEK_END: self._size}[whence]
        return self._place

    def tell(self) -> int:
        return self._place

    def readinto(self, buffer: Any) -> int:
        count = max(0, min(len(buffer), self._size - self._place))
        if count:
            buffer[:count] = read_bytes(self._url, self._place, count)
            self._place += count
        return count
