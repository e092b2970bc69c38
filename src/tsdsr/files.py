"""Writing of files and folders: checked before work begins, atomic, and never silently incomplete."""

from __future__ import annotations

import os
import re
import secrets
import shutil
import stat
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tsdsr.errors import FileWriteError, InvalidInputError

StrPath = str | os.PathLike[str]
"""Type of file and folder arguments of public functions."""

OLD_AFTER_SECONDS = 24 * 3600.0
"""Age at which a temporary file is taken for the leftover of a process that was killed."""

_PREFIX, _SUFFIX = ".tsdsr-", ".tmp"
_CHUNK = 2**22
_swept: set[Path] = set()  # folders whose leftovers this process has removed


def as_path(value: object, what: str) -> Path:
    """Return a path argument as a Path.

    Args:
        value (str | PathLike): the argument.
        what (str): its name in messages.

    Raises:
        InvalidInputError: it is empty, not a path, or contains a null character.
    """
    if not isinstance(value, str | os.PathLike) or not isinstance(text := os.fspath(value), str):
        raise InvalidInputError(f"{what}: takes a path, got {type(value).__name__}")
    if not text.strip():
        raise InvalidInputError(f"{what}: is empty; give a path, or '.' for the current folder")
    if "\0" in text:
        raise InvalidInputError(f"{what}: a path cannot contain a null character, got {text!r}")
    return Path(text)


def require_new(path: StrPath) -> Path:
    """Return the path of a folder to create, if nothing exists there and it can be created.

    Raises:
        InvalidInputError: the path exists, or as :func:`require_writable_folder`.
    """
    path = as_path(path, "output")
    if os.path.lexists(path):
        raise InvalidInputError(f"{path}: already exists; choose another name or remove it")
    return require_writable_folder(path)


def require_writable_file(path: StrPath) -> Path:
    """Check, before work begins, that a file can be written or replaced. Nothing is changed.

    Args:
        path (str | PathLike): the file. Missing folders are allowed where they can be created.

    Returns:
        Path: the path.

    Raises:
        InvalidInputError: a folder has this name, a part of the path is no folder, permission is missing, a name is
            too long, or links form a loop.
    """
    path = as_path(path, "output")
    with _invalid_if_refused(path):
        if path.is_dir():
            raise InvalidInputError(f"{path}: is a folder; give the name of a file")
        if _exists(path):
            if not os.access(path, os.W_OK):
                raise InvalidInputError(f"{path}: cannot be written (it is read-only)")
            if not path.is_file():
                return path  # a device or a pipe
        _try_folder(path.parent)
        _check_names(path)
    return path


def require_writable_folder(path: StrPath) -> Path:
    """Check, before work begins, that files can be written into a folder. Nothing is changed.

    Args:
        path (str | PathLike): the folder. It may be missing where it can be created.

    Returns:
        Path: the path.

    Raises:
        InvalidInputError: as :func:`require_writable_file`; also if ``path`` is a file.
    """
    path = as_path(path, "output")
    with _invalid_if_refused(path):
        if _exists(path) and not path.is_dir():
            raise InvalidInputError(f"{path}: is a file; give the name of a folder")
        _try_folder(path)
        _check_names(path)
    return path


@contextmanager
def atomic_path(path: StrPath) -> Iterator[Path]:
    """Write to a temporary path beside ``path``; rename it if the block succeeds, delete it if the block fails.

    Before the rename, the data is flushed to the disk and read back. The folder is created if missing. An existing file
    keeps its permissions, a new one gets those of the umask. A link is followed. A device or pipe is written after the
    block.

    Args:
        path (str | PathLike): final path of the file.

    Yields:
        Path: an empty file to write to; hidden, with the suffix ``.tmp`` and a short name.

    Raises:
        FileWriteError: the file cannot be written; what was at ``path`` is untouched.
    """
    path = as_path(path, "output")
    with _write_errors_named(path):
        target = Path(os.path.realpath(path)) if path.is_symlink() else path
        special = _exists(target) and not target.is_file()
        if special and target.is_dir():
            raise FileWriteError(f"{path}: is a folder; choose another name")
        folder = Path(tempfile.gettempdir()) if special else target.parent
        folder.mkdir(parents=True, exist_ok=True)
        remove_leftovers(folder)
        temporary, mode = _new_file(folder)
        try:
            yield temporary
            flush_and_read_back(temporary)
            if special:
                with temporary.open("rb") as source, target.open("wb") as sink:
                    shutil.copyfileobj(source, sink, _CHUNK)
                return
            replaces = target.exists()
            temporary.chmod(stat.S_IMODE(target.stat().st_mode) if replaces else mode)
            os.replace(temporary, target)
        finally:
            with suppress(OSError):  # already renamed
                temporary.unlink()


@contextmanager
def atomic_folder(path: StrPath, read_back: bool = True) -> Iterator[Path]:
    """Write to a temporary folder beside ``path``; rename it if the block succeeds, delete it if the block fails.

    Args:
        path (str | PathLike): final path of the folder, which must not exist; parents are created if missing.
        read_back (bool): flush its files to the disk and read them before the rename. False if who wrote them does.

    Yields:
        Path: the folder to write into; hidden. Its files get the permissions of the umask.

    Raises:
        FileWriteError: the folder cannot be written, or ``path`` was created in the meantime.
    """
    path = as_path(path, "output")
    with _write_errors_named(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        remove_leftovers(path.parent)
        temporary = path.parent / _new_name()
        temporary.mkdir()
        try:
            yield temporary
            mode = stat.S_IMODE(temporary.stat().st_mode)
            for file in temporary.rglob("*"):
                if file.is_file():
                    if read_back:
                        flush_and_read_back(file)
                    file.chmod(mode & 0o666)  # some libraries create private files
            os.replace(temporary, path)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)


def write_text(path: StrPath, text: str) -> None:
    """Write a text file in UTF-8, atomically. Names that are not Unicode are stored with escapes.

    Raises:
        FileWriteError: see :func:`atomic_path`.
    """
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8", errors="backslashreplace")


def remove_leftovers(folder: Path) -> None:
    """Delete old temporary files that killed processes left in a folder. Looks once per folder and process."""
    if folder in _swept:
        return
    _swept.add(folder)
    with suppress(OSError):
        for name in os.listdir(folder):
            if name.startswith(_PREFIX) and name.endswith(_SUFFIX):
                _remove_if_old(folder / name)


def _remove_if_old(path: Path) -> None:
    with suppress(OSError):  # another process may have removed it
        if time.time() - path.lstat().st_mtime < OLD_AFTER_SECONDS:
            return
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink()


def _new_name() -> str:
    """Return a hidden name, random because process ids repeat across containers that share a folder."""
    return f"{_PREFIX}{secrets.token_hex(5)}{_SUFFIX}"


def _new_file(folder: Path) -> tuple[Path, int]:
    """Create an empty file; return its path and the permissions that the umask gave it."""
    path = folder / _new_name()
    descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666)
    try:
        return path, stat.S_IMODE(os.fstat(descriptor).st_mode)
    finally:
        os.close(descriptor)


def flush_and_read_back(path: Path) -> None:
    """Flush a file to the disk and read every byte.

    Raises:
        OSError: the disk or network refuses the data, or returns less than was written.
    """
    with path.open("r+b") as file:  # fsync needs a writable descriptor on Windows
        os.fsync(file.fileno())
        expected, count = os.fstat(file.fileno()).st_size, 0
        while chunk := file.read(_CHUNK):
            count += len(chunk)
    if count != expected:
        raise OSError(f"only {count} of {expected} bytes could be read back")


@contextmanager
def _write_errors_named(path: Path) -> Iterator[None]:
    """Convert failures of the file system to an error that names the file."""
    try:
        yield
    except OSError as error:
        raise FileWriteError(f"{path}: cannot be written ({error.strerror or error})") from error
    except Exception as error:
        reason = _library_reason(str(error))
        if reason is None:
            raise
        raise FileWriteError(f"{path}: cannot be written ({reason})") from error


def _library_reason(message: str) -> str | None:
    """Return why a write failed, from a library's own exception; None if it is about something else."""
    number = re.search(r"\(os error (\d+)\)", message)  # safetensors
    if number is not None:
        return os.strerror(int(number[1]))
    if any(sign in message for sign in ("PytorchStreamWriter", "unexpected pos", "iostream error")):
        return "the disk took a part of the data only; it may be full"  # torch.save and OpenVINO give no reason
    return None


@contextmanager
def _invalid_if_refused(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise InvalidInputError(f"{path}: cannot be written ({error.strerror or error})") from error


def _exists(path: Path) -> bool:
    """Whether something is at a path. Unlike ``Path.exists``, raises OSError for a loop of links or a long name."""
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    return True


def _try_folder(folder: Path) -> None:
    """Create and delete a file in the closest folder that exists, as permissions alone do not tell.

    Raises:
        OSError: that is not possible.
    """
    while not _exists(folder):
        folder = folder.parent
    temporary, _ = _new_file(folder)
    temporary.unlink()


def _check_names(path: Path) -> None:
    """Check the length of each name, also below folders that do not exist yet."""
    for name in path.parts:
        if len(os.fsencode(name)) > 255:
            raise InvalidInputError(f"{path}: a name is longer than the 255 bytes that file systems allow")


def file_stamp(path: Path) -> tuple[int, ...]:
    """Return values that change when a file is changed or replaced; () if there is none."""
    try:
        status = path.stat()
    except OSError:
        return ()
    return status.st_ino, status.st_mtime_ns, status.st_size
