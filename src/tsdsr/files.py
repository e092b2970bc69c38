"""Atomic writing of files and folders."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tsdsr.errors import InvalidInputError

StrPath = str | os.PathLike[str]
"""Type of file and folder arguments of public functions."""


def require_new(path: StrPath) -> Path:
    """Return the path if nothing exists there.

    Raises:
        InvalidInputError: the path exists.
    """
    path = Path(path)
    if path.exists():
        raise InvalidInputError(f"{path}: exists already; choose another name or remove it")
    return path


@contextmanager
def atomic_path(path: StrPath) -> Iterator[Path]:
    """Write to a temporary path beside ``path``; rename it if the block succeeds, delete it if the block fails.

    The folder is created if missing. The data is flushed to disk before the rename.

    Args:
        path (str | PathLike): final path of the file.

    Yields:
        Path: the path to write to; hidden, with the suffix ``.tmp``.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        yield temporary
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        with suppress(OSError):  # already renamed, or never created
            temporary.unlink()


@contextmanager
def atomic_folder(path: StrPath) -> Iterator[Path]:
    """Write to a temporary folder beside ``path``; rename it if the block succeeds, delete it if the block fails.

    Args:
        path (str | PathLike): final path of the folder, which must not exist; parents are created if missing.

    Yields:
        Path: the folder to write into; hidden.

    Raises:
        OSError: ``path`` was created in the meantime.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent))
    try:
        yield temporary
        temporary.chmod(0o755)  # mkdtemp creates private folders
        os.replace(temporary, path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
