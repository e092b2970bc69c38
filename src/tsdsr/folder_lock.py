"""Lock of a folder that a run works in: one run at a time.

The operating system holds the lock (a record lock of ``run.lock``) and releases it when the process ends, however it
ends. It also works between containers on one machine, whose process ids say nothing to each other. The file's text
says who holds it. Where the file system has no locks, the recorded process is looked up instead.
"""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil

from tsdsr.errors import FileWriteError, TSDSRError

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

LOCK = "run.lock"

_held: set[Path] = set()  # folders locked by this process, to which its own record locks do not apply


class _HeldError(Exception):
    """Why a lock cannot be had."""


@contextmanager
def folder_lock(folder: Path, in_use: type[TSDSRError]) -> Iterator[None]:
    """Lock a folder for this process. A lock left behind by a dead process is taken over.

    Args:
        folder (Path): is made if it is not there.
        in_use (type): the error to raise if another run holds the lock.

    Raises:
        TSDSRError: of type ``in_use``: a live process holds the lock, or one on another machine has left it.
        FileWriteError: the folder cannot be written.
    """
    path, key = folder / LOCK, folder.resolve() / LOCK
    if key in _held:
        raise in_use(_in_use(path, {"pid": os.getpid()}))
    try:
        folder.mkdir(parents=True, exist_ok=True)
        descriptor = _acquire(path)
    except _HeldError as error:
        raise in_use(str(error)) from None
    except OSError as error:
        raise FileWriteError(f"{path}: cannot be written ({error.strerror or error})") from error
    _held.add(key)
    try:
        yield
    finally:
        _held.discard(key)
        with suppress(OSError):
            path.unlink()
        os.close(descriptor)


def _acquire(path: Path) -> int:
    """Lock the file and write this process into it; return its descriptor."""
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            locked = _lock(descriptor)
            text = os.read(descriptor, 2**16).decode(errors="replace")
            if locked is False:
                raise _HeldError(_in_use(path, _holder(path, text)))
            if _is_current(descriptor, path):
                _require_stale(path, text, locked is True)
                os.ftruncate(descriptor, 0)
                os.pwrite(descriptor, json.dumps(_identity()).encode(), 0)
                return descriptor
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)  # released and deleted meanwhile


def _lock(descriptor: int) -> bool | None:
    """Try to lock a file: whether it worked, or None where locks are not supported."""
    if fcntl is None:
        return None
    try:
        fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        return False
    except OSError:
        return None
    return True


def _is_current(descriptor: int, path: Path) -> bool:
    with suppress(FileNotFoundError):
        return os.path.samestat(os.fstat(descriptor), path.stat())
    return False


def _require_stale(path: Path, text: str, locked: bool) -> None:
    """Check that the process that left the text is gone."""
    if not text:
        return
    holder = _holder(path, text)
    own = _identity()
    here = holder.get("boot") == own["boot"] or holder.get("host") == own["host"]
    if not here:
        raise _HeldError(
            f"{path.parent}: is in use by process {holder.get('pid')} on {holder.get('host')}; "
            f"if that run is no longer alive, delete {path}"
        )
    if not locked and _is_alive(holder):
        raise _HeldError(_in_use(path, holder))


def _holder(path: Path, text: str) -> dict[str, Any]:
    """Parse the text of a lock; an empty dict if it is not written yet."""
    if not text:
        return {}
    with suppress(ValueError):
        holder = json.loads(text)
        if isinstance(holder, dict):
            return holder
    raise _HeldError(f"{path}: is not a lock of this program; delete it if no run uses the folder")


def _in_use(path: Path, holder: dict[str, Any]) -> str:
    where = "" if holder.get("host", socket.gethostname()) == socket.gethostname() else f" on {holder['host']}"
    return (
        f"{path.parent}: is in use by process {holder.get('pid', 'unknown')}{where}; wait for it, "
        f"or choose another output"
    )


def _identity() -> dict[str, Any]:
    """This process: its id and start, its host's name, and the machine since it was booted."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        boot = f"{socket.gethostname()} {psutil.boot_time():.0f}"
    started = psutil.Process().create_time()
    return {"pid": os.getpid(), "host": socket.gethostname(), "boot": boot, "started": started}


def _is_alive(holder: dict[str, Any]) -> bool:
    """Whether the process is still running; a reused process id does not count."""
    with suppress(psutil.Error, KeyError, TypeError, ValueError):
        return bool(abs(psutil.Process(holder["pid"]).create_time() - holder["started"]) < 1)
    return False
