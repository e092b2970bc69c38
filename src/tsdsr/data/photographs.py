"""Photographs of training sets: files, and members of shards; decoded, and kept in memory for a while."""

from __future__ import annotations

import tarfile
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import NamedTuple, Protocol, Union

import numpy as np
from numpy.typing import NDArray

from tsdsr.errors import DatasetError, FileReadError, ImageError, MissingDependencyError
from tsdsr.hashing import fingerprint_bytes, fingerprint_file
from tsdsr.images.reading import decode_rgb, read_rgb
from tsdsr.remote_files import read_bytes

_HEADER = tarfile.BLOCKSIZE
_JOINED = 2**18
"""Photograph and text are read with one request if no more than this many bytes lie between them."""


class ShardPhoto(NamedTuple):
    """A photograph in a shard, a tar file in WebDataset's layout.

    Attributes:
        shard (str): path or URL of the tar file.
        name (str): the image file's name, with folders.
        offset, size (int): where the image file lies in the tar file, in bytes.
        text_offset, text_size (int): where its prompt lies; size 0 if it has none.
    """

    shard: str
    name: str
    offset: int
    size: int
    text_offset: int = 0
    text_size: int = 0

    def __str__(self) -> str:
        return f"{self.shard}: {self.name}"

    def read(self) -> tuple[bytes, str]:
        """Read the image file and its prompt, with one request where they lie beside each other.

        Raises:
            DatasetError: the shard cannot be read, or is not the one that its index describes.
            ImageError: the prompt is not UTF-8; the photograph counts as damaged, too.
            MissingDependencyError: a package for this kind of URL is not installed.
        """
        parts = [(self.offset - _HEADER, self.size + _HEADER)]
        if self.text_size:
            parts.append((self.text_offset, self.text_size))
        start, end = min(first for first, _ in parts), max(first + size for first, size in parts)
        if end - start <= sum(size for _, size in parts) + _JOINED:
            block = self._range(start, end - start)
            found = [block[first - start : first - start + size] for first, size in parts]
        else:
            found = [self._range(*part) for part in parts]
        self._check(found[0][:_HEADER])
        return found[0][_HEADER:], self._text(found[1]) if self.text_size else ""

    def read_prompt(self) -> str:
        """Read the prompt only; errors as :meth:`read`."""
        return self._text(self._range(self.text_offset, self.text_size)) if self.text_size else ""

    def _range(self, start: int, size: int) -> bytes:
        try:
            return read_bytes(self.shard, start, size)
        except FileReadError as error:
            raise DatasetError(f"{error} ({self.name} is read from it)") from error

    def _text(self, content: bytes) -> str:
        try:
            return decode_prompt(content, f"{self.shard}: the text of {self.name}").strip()
        except DatasetError as error:
            raise ImageError(str(error)) from error

    def _check(self, header: bytes) -> None:
        """Check that the tar file has this member there: the shard may be another than the one that was indexed."""
        try:
            member = tarfile.TarInfo.frombuf(header, "utf-8", "surrogateescape")
        except tarfile.HeaderError:
            member = tarfile.TarInfo()
        whole = self.name.isascii() and len(self.name) < 100  # other names lie in blocks before
        if member.size != self.size or (whole and sample_key(member.name) != sample_key(self.name)):
            raise DatasetError(
                f"{self.shard}: does not contain {self.name} where its index says; write the index again"
            )


Photo = Union[Path, ShardPhoto]  # noqa: UP007  (the name is used at run time)
"""A photograph of a training set: an image file, or a member of a shard."""


class PhotoSource(Protocol):
    """Photographs that are drawn with a common weight: a folder, a list, or shards."""

    @property
    def images(self) -> Sequence[Photo]:
        """The photographs, in a fixed order."""
        ...

    @property
    def weight(self) -> float:
        """Sampling weight relative to other sources."""
        ...


@dataclass(frozen=True)
class OnePhoto:
    """A single photograph as a source."""

    photo: Photo
    weight: float = 1.0

    @property
    def images(self) -> tuple[Photo, ...]:
        return (self.photo,)


class LoadedPhoto(NamedTuple):
    """A photograph in memory.

    Attributes:
        pixels (array): (H, W, 3) uint8.
        text (str): the prompt that a shard holds for it; empty if there is none.
        content (str): fingerprint of the image file, in hexadecimal; equal for a file and its copy in a shard.
    """

    pixels: NDArray[np.uint8]
    text: str
    content: str


def sample_key(name: str) -> str:
    """Return a sample's key: its file's name without suffix and dots, because WebDataset splits names at dots."""
    path = PurePosixPath(name)
    return path.with_suffix("").as_posix().replace(".", "_") if path.name else ""


def photo_name(photo: Photo) -> str:
    """Return the name of a photograph's image file, without folders."""
    return photo.name if isinstance(photo, Path) else photo.name.rpartition("/")[2]


def load_photo(photo: Photo) -> LoadedPhoto:
    """Read and decode a photograph, as :func:`~tsdsr.images.reading.read_rgb` does.

    Raises:
        ImageError, MissingDependencyError, OSError: it cannot be decoded.
        DatasetError: its shard cannot be used, see :meth:`ShardPhoto.read`.
    """
    if isinstance(photo, Path):
        return LoadedPhoto(read_rgb(photo), "", fingerprint_file(photo))
    data, text = photo.read()
    return LoadedPhoto(decode_rgb(data, str(photo)), text, fingerprint_bytes(data))


def load_usable(
    photo: Photo, min_side: int, load: Callable[[Photo], LoadedPhoto] = load_photo
) -> tuple[LoadedPhoto | None, str]:
    """Load a photograph; return None and the reason if it cannot be decoded or has a side below ``min_side``.

    Raises:
        DatasetError: its shard cannot be used.
    """
    try:
        loaded = load(photo)
    except (ImageError, MissingDependencyError) as error:
        return None, str(error)
    except OSError as error:
        return None, f"{photo}: cannot be read ({error.strerror or error})"
    height, width = loaded.pixels.shape[:2]
    if min(height, width) < min_side:
        return None, f"{photo}: {width}x{height} is smaller than {min_side} pixels"
    return loaded, ""


def decode_prompt(text: bytes, name: str) -> str:
    """Decode the content of a prompt file.

    Raises:
        DatasetError: It is not UTF-8.
    """
    try:
        return text.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DatasetError(f"{name}: is not UTF-8 text; save it in UTF-8") from error


def count_photos(sources: Iterable[PhotoSource]) -> int:
    """Return the number of photographs of several sources."""
    return sum(len(source.images) for source in sources)


class PhotoCache:
    """LRU cache of decoded photographs.

    Args:
        max_bytes (int): total size limit of the decoded pixels.
    """

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self._photos: OrderedDict[Photo, LoadedPhoto] = OrderedDict()
        self._bytes = 0

    def load(self, photo: Photo) -> LoadedPhoto:
        """Load a photograph with :func:`load_photo`, or return it from the cache."""
        if photo in self._photos:
            self._photos.move_to_end(photo)
            return self._photos[photo]
        loaded = load_photo(photo)
        self._photos[photo] = loaded
        self._bytes += loaded.pixels.nbytes
        while self._bytes > self.max_bytes and len(self._photos) > 1:
            self._bytes -= self._photos.popitem(last=False)[1].pixels.nbytes
        return loaded
