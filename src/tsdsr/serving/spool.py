"""The private temporary folder of a server: uploads and results under random names, and how many bytes they take."""

from __future__ import annotations

import os
import secrets
import shutil
import tempfile
import threading
import time
from contextlib import suppress
from pathlib import Path

from tsdsr.errors import FileWriteError

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

_PREFIX, _LOCK = "tsdsr-serve-", "lock"
_UNLOCKED_SECONDS = 60.0
"""Age from which a folder without a lock is a leftover: a server that starts has none for a moment."""


class Spool:
    """A new folder that only this user can read. The operating system holds its lock until the process ends.

    Folders whose server was killed are removed first.

    Args:
        parent (Path | None): where the folder is made; None takes the system's folder for temporary files.

    Raises:
        FileWriteError: the folder cannot be made.
    """

    def __init__(self, parent: Path | None = None) -> None:
        try:
            root = Path(parent or tempfile.gettempdir())
            root.mkdir(parents=True, exist_ok=True)
            remove_leftovers(root)
            self.folder = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=root))
            self._lock_file = os.open(self.folder / _LOCK, os.O_RDWR | os.O_CREAT, 0o600)
            _lock(self._lock_file)
        except OSError as error:
            raise FileWriteError(f"{parent or 'TMPDIR'}: cannot be written ({error.strerror or error})") from error
        self._sizes: dict[Path, int] = {}
        self._guard = threading.Lock()

    @property
    def used(self) -> int:
        """Bytes of all files."""
        with self._guard:
            return sum(self._sizes.values())

    def new_path(self, suffix: str = "") -> Path:
        """Return a path that does not exist yet, with a random name."""
        return self.folder / f"{secrets.token_hex(16)}{suffix}"

    def count(self, path: Path, size: int | None = None) -> None:
        """Set the bytes that a file takes; default: its size."""
        with self._guard:
            self._sizes[path] = path.stat().st_size if size is None else size

    def remove(self, *paths: Path | None) -> None:
        """Delete files. Missing ones are ignored."""
        for path in paths:
            if path is not None:
                with suppress(OSError):
                    path.unlink(missing_ok=True)
                with self._guard:
                    self._sizes.pop(path, None)

    def close(self) -> None:
        """Delete the folder."""
        os.close(self._lock_file)
        shutil.rmtree(self.folder, ignore_errors=True)


def remove_leftovers(root: Path) -> None:
    """Delete the folders of servers that were killed: those of this user whose lock nobody holds."""
    if fcntl is None:
        return
    for folder in root.glob(f"{_PREFIX}*"):
        with suppress(OSError):
            status = folder.lstat()
            if folder.is_symlink() or not folder.is_dir() or status.st_uid != os.getuid():
                continue
            if _is_abandoned(folder / _LOCK, status.st_mtime):
                shutil.rmtree(folder, ignore_errors=True)


def _is_abandoned(lock: Path, changed: float) -> bool:
    try:
        descriptor = os.open(lock, os.O_RDWR)
    except FileNotFoundError:
        return time.time() - changed > _UNLOCKED_SECONDS
    try:
        return _lock(descriptor)
    finally:
        os.close(descriptor)


def _lock(descriptor: int) -> bool:
    """Try to lock a file; return whether it worked. Locks of one process exclude each other too."""
    if fcntl is None:
        return True
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
