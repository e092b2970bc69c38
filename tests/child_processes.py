"""Child processes of tests: none outlives its test, nor does what it has started itself."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

import psutil


@contextmanager
def started(command: Sequence[str], **options: Any) -> Iterator[subprocess.Popen[Any]]:
    """Start a process in a session of its own. When the block ends, it is killed with all of its descendants.

    Args:
        command (sequence of str): program and arguments.
        options: as for Popen.
    """
    process = subprocess.Popen(command, start_new_session=True, **options)
    try:
        yield process
    finally:
        _kill_family(process)
        for stream in (process.stdin, process.stdout, process.stderr):
            if stream is not None:
                with suppress(OSError):
                    stream.close()


def finished(command: Sequence[str], timeout: float = 120, **options: Any) -> subprocess.CompletedProcess[Any]:
    """Run a process to its end, with what it prints.

    ``subprocess.run`` kills only the process itself at a timeout, and its descendants would go on.

    Args:
        command (sequence of str): program and arguments.
        timeout (float): most seconds.
        options: as for Popen.

    Raises:
        TimeoutExpired: the process has not ended in time; it has been killed.
    """
    with started(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **options) as process:
        output, errors = process.communicate(timeout=timeout)
        return subprocess.CompletedProcess(command, process.returncode, output, errors)


def _kill_family(process: subprocess.Popen[Any]) -> None:
    family: list[psutil.Process] = []
    if process.poll() is None:
        with suppress(psutil.Error):
            family = psutil.Process(process.pid).children(recursive=True)  # launchers put some in other sessions
    if hasattr(os, "killpg"):
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)  # also those whose parent has ended
    process.kill()
    for member in family:
        with suppress(psutil.Error):
            member.kill()
    process.wait(timeout=10)
