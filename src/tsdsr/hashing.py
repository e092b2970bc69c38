"""Content hashes of texts, bytes, pixels, and the files of a folder.

Caches, manifests, studies and exported models store these values, so the hash of given content must never change.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from tsdsr.errors import DatasetError, ModelError

_SAMPLE = 2**16  # bytes read from each end of a large file for a fingerprint
_CHUNK = 2**24


def hash_bytes(data: bytes) -> str:
    """Return the SHA-256 of bytes, in hexadecimal."""
    return hashlib.sha256(data).hexdigest()


def hash_text(text: str) -> str:
    """Return the SHA-256 of a text in UTF-8."""
    return hash_bytes(text.encode())


def hash_pixels(pixels: NDArray[Any]) -> str:
    """Return the SHA-256 of an array's shape and values, independent of the memory layout."""
    return hash_bytes(repr(pixels.shape).encode() + pixels.tobytes())


def hash_file(path: Path) -> str:
    """Return the SHA-256 of a file's content, read in full.

    Raises:
        OSError: the file cannot be read.
    """
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def hash_model(folder: Path) -> str:
    """Return the SHA-256 of a model's weights and configuration: names and content of the files, read in full.

    Hidden files and texts (``.md``) do not belong to the model.

    Raises:
        ModelError: a file cannot be read.
    """
    digest = hashlib.sha256()
    try:
        for path in _files(folder):
            name = path.relative_to(folder)
            if path.suffix.lower() != ".md" and not any(part.startswith(".") for part in name.parts):
                digest.update(_name(path, folder) + b"\n" + hash_file(path).encode())
    except OSError as error:
        raise ModelError(f"{folder}: cannot be read ({error.strerror or error})") from error
    return digest.hexdigest()


def fingerprint_folder(folder: Path, subfolders: Iterable[str]) -> str:
    """Return the SHA-256 of the files in some subfolders of a model: names, sizes, and both ends of the large ones.

    Raises:
        DatasetError: a subfolder is missing or empty.
    """
    digest = hashlib.sha256()
    for subfolder in sorted(subfolders):
        files = _files(folder / subfolder)
        if not files:
            raise DatasetError(f"{folder / subfolder}: no model there; check the model's folder")
        for path in files:
            digest.update(_name(path, folder) + f" {path.stat().st_size}\n".encode())
            digest.update(_both_ends(path))
    return digest.hexdigest()


def fingerprint_file(path: Path) -> str:
    """Return the SHA-256 of a file's size and content; of a large file, only both ends of the content."""
    return hash_bytes(f"{path.stat().st_size}\n".encode() + _both_ends(path))


def fingerprint_bytes(content: bytes) -> str:
    """Return the same as :func:`fingerprint_file` for a file with this content."""
    ends = content[:_SAMPLE] + (content[-_SAMPLE:] if len(content) > 2 * _SAMPLE else b"")
    return hash_bytes(f"{len(content)}\n".encode() + ends)


def _both_ends(path: Path) -> bytes:
    """Return the first bytes of a file and, if it is large, its last bytes."""
    with path.open("rb") as file:
        ends = file.read(_SAMPLE)
        if path.stat().st_size > 2 * _SAMPLE:
            file.seek(-_SAMPLE, 2)
            ends += file.read()
    return ends


def _name(path: Path, folder: Path) -> bytes:
    """Return the relative name of a file, which need not be Unicode."""
    return path.relative_to(folder).as_posix().encode("utf-8", "surrogateescape")


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())
