"""One run in one folder at a time, and a run that Ctrl-C ends after a whole step."""

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
    """Hold a run folder for this process; a lock that a dead process left behind is taken over.

    Raises:
        TrainingError: a live process, or one on another machine, holds the folder.
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
        os.replace(path, aside)  # only one process succeeds in taking a lock aside
        if aside.read_text() != text:  # a new one, written since it was read
            os.replace(aside, path)
        else:
            aside.unlink()


def _is_alive(pid: int, started: float) -> bool:
    """Whether the process still runs; a process number that was given out again does not count."""
    try:
        return bool(abs(psutil.Process(pid).create_time() - started) < 1)
    except psutil.NoSuchProcess:
        return False


class StopRequest:
    """Turns the first Ctrl-C into a request to stop after the current step; the second interrupts at once.

    Args:
        on_request (callable): called once, when the request comes.
    """

    def __init__(self, on_request: Callable[[], None]) -> None:
        self.requested = False
        self.on_request = on_request

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Listen within the block; outside of the main thread Python allows no handlers, and Ctrl-C stays as it is."""
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
    """Start of a data loading process: Ctrl-C reaches it too, but only the trainer decides when to stop."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
