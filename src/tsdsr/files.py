"""Files that appear complete or not at all."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tsdsr.errors import InvalidInputError

StrPath = str | os.PathLike[str]
"""What public functions take as the name of a file or folder."""


def require_new(path: StrPath) -> Path:
    """The path, unless something exists there.

    Raises:
        InvalidInputError: it exists.
    """
    path = Path(path)
    if path.exists():
        raise InvalidInputError(f"{path}: exists already; choose another name or remove it")
    return path


@contextmanager
def atomic_path(path: StrPath) -> Iterator[Path]:
    """A temporary path beside ``path`` that takes its place when the block ends well, and vanishes when it does not.

    The folder is created when missing. The data is on disk before the name is.

    Args:
        path (str | PathLike): the final name of a file.

    Yields:
        Path: where to write; hidden, with the suffix ``.tmp``.
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
        with suppress(OSError):  # gone already after the rename, or never made
            temporary.unlink()


@contextmanager
def atomic_folder(path: StrPath) -> Iterator[Path]:
    """A temporary folder beside ``path`` that takes its place when the block ends well, and vanishes when it does not.

    Args:
        path (str | PathLike): the final name of a folder that does not exist; its parents are created when missing.

    Yields:
        Path: the folder to write into; hidden.

    Raises:
        OSError: ``path`` came into being meanwhile.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent))
    try:
        yield temporary
        temporary.chmod(0o755)  # mkdtemp's folders are private
        os.replace(temporary, path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
