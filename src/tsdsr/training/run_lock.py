"""Lock of a run folder, and Ctrl-C as a request to stop after the current step."""

from __future__ import annotations

import json
import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType

import psutil

from tsdsr.errors import TrainingError

LOCK = "run.lock"


@contextmanager
def run_lock(folder: Path) -> Iterator[None]:
    """Lock a run folder for this process. A lock left behind by a dead process is taken over.

    Raises:
        TrainingError: a live process, or one on another machine, holds the lock.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / LOCK
    own = json.dumps({"pid": os.getpid(), "host": socket.gethostname(), "started": psutil.Process().create_time()})
    while True:
        try:
            with path.open("x") as file:
                file.write(own)
            break
        except FileExistsError:
            _remove_if_stale(path)
    try:
        yield
    finally:
        with suppress(OSError):
            path.unlink()


def _remove_if_stale(path: Path) -> None:
    try:
        text = path.read_text()
        holder = json.loads(text)
    except FileNotFoundError:  # released meanwhile
        return
    except ValueError:
        raise TrainingError(f"{path}: is not a lock of this program; delete it if no run uses the folder") from None
    if holder["host"] != socket.gethostname():
        raise TrainingError(
            f"{path.parent}: is in use by process {holder['pid']} on {holder['host']}; "
            f"if that run is no longer alive, delete {path}"
        )
    if _is_alive(holder["pid"], holder["started"]):
        raise TrainingError(
            f"{path.parent}: is in use by process {holder['pid']}; wait for it, or choose another output folder"
        )
    aside = path.with_name(f"{LOCK}.{os.getpid()}")
    with suppress(FileNotFoundError):
        os.replace(path, aside)  # only one process succeeds in moving a lock aside
        if aside.read_text() != text:  # a new lock, written after the read
            os.replace(aside, path)
        else:
            aside.unlink()


def _is_alive(pid: int, started: float) -> bool:
    """Whether the process is still running; a reused process id does not count."""
    try:
        return bool(abs(psutil.Process(pid).create_time() - started) < 1)
    except psutil.NoSuchProcess:
        return False


class StopRequest:
    """Turn the first Ctrl-C into a request to stop after the current step; a second one interrupts at once.

    Args:
        on_request (callable): called once, on the request.
    """

    def __init__(self, on_request: Callable[[], None]) -> None:
        self.requested = False
        self.on_request = on_request

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Listen within the block. Outside the main thread Python allows no handlers, and Ctrl-C is unchanged."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = signal.signal(signal.SIGINT, self._handle)
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, before)

    def _handle(self, signum: int, frame: FrameType | None) -> None:
        if self.requested:
            raise KeyboardInterrupt
        self.requested = True
        self.on_request()


def ignore_interrupts(worker: int) -> None:
    """Ignore Ctrl-C in a data loading process: it is sent there too, but the trainer decides when to stop."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
