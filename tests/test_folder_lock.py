"""Only one run at a time may use a folder."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from tests.child_processes import started
from tsdsr import folder_lock as module
from tsdsr.errors import FileWriteError, TrainingError
from tsdsr.folder_lock import LOCK, folder_lock

HOLD = """
import json, os, sys, time
from pathlib import Path
from tsdsr import folder_lock
from tsdsr.errors import TrainingError
changes = json.loads(sys.argv[2])
honest = folder_lock._identity
folder_lock._identity = lambda: {**honest(), **changes}
with folder_lock.folder_lock(Path(sys.argv[1]), TrainingError):
    print("held", flush=True)
    time.sleep(120)
"""


@contextmanager
def other_process(folder: Path, **changes: object) -> Iterator[subprocess.Popen[str]]:
    """A process that holds the lock of a folder, with some entries of its identity changed."""
    source = str(Path(module.__file__).parents[1])
    command = [sys.executable, "-c", HOLD, str(folder), json.dumps(changes)]
    environment = {**os.environ, "PYTHONPATH": source}
    with started(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        yield process


def holder(folder: Path, **changes: object) -> None:
    """A lock as this process would hold it, with some entries changed."""
    own = {"pid": os.getpid(), "host": socket.gethostname(), "started": psutil.Process().create_time()}
    (folder / LOCK).write_text(json.dumps(own | changes))


def test_a_folder_is_held_within_the_block(tmp_path: Path) -> None:
    with folder_lock(tmp_path / "run", TrainingError):
        with (
            pytest.raises(TrainingError, match=f"is in use by process {os.getpid()}"),
            folder_lock(tmp_path / "run", TrainingError),
        ):
            pass
        assert (tmp_path / "run" / LOCK).exists()
    with folder_lock(tmp_path / "run", TrainingError):
        pass
    assert list((tmp_path / "run").iterdir()) == []


def test_the_lock_of_a_dead_process_is_taken_over(tmp_path: Path) -> None:
    process = subprocess.Popen([sys.executable, "-c", "pass"])
    process.wait()
    holder(tmp_path, pid=process.pid)
    with folder_lock(tmp_path, TrainingError):
        assert json.loads((tmp_path / LOCK).read_text())["pid"] == os.getpid()


def test_a_process_number_that_was_given_out_again_does_not_count(tmp_path: Path) -> None:
    holder(tmp_path, started=1.0)
    with folder_lock(tmp_path, TrainingError):
        pass


def test_other_machines_cannot_be_asked(tmp_path: Path) -> None:
    holder(tmp_path, host="elsewhere")
    with pytest.raises(TrainingError, match=r"on elsewhere; if that run is no longer alive, delete .*run.lock"):
        folder_lock(tmp_path, TrainingError).__enter__()
    (tmp_path / LOCK).write_text("x")
    with pytest.raises(TrainingError, match="delete it"):
        folder_lock(tmp_path, TrainingError).__enter__()


def test_another_process_is_refused_until_it_is_killed(tmp_path: Path) -> None:
    with other_process(tmp_path) as process:
        with pytest.raises(TrainingError, match=f"in use by process {process.pid}; wait for it, or choose another"):
            folder_lock(tmp_path, TrainingError).__enter__()
        process.kill()  # kill -9: nothing is cleaned up
        process.wait()
        assert (tmp_path / LOCK).exists()
        with folder_lock(tmp_path, TrainingError):
            pass
    assert not (tmp_path / LOCK).exists()


def test_containers_see_each_others_locks(tmp_path: Path) -> None:
    """Their process ids and host names say nothing; the machine's own lock does."""
    with other_process(tmp_path, pid=1, host="container-2") as process:
        with pytest.raises(TrainingError, match="in use by process 1 on container-2; wait for it"):
            folder_lock(tmp_path, TrainingError).__enter__()
        process.kill()
        process.wait()
        with folder_lock(tmp_path, TrainingError):  # another host's name, but the same machine: nobody holds it
            pass


def test_without_locks_of_the_file_system_the_process_is_looked_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "fcntl", None)
    holder(tmp_path)
    with pytest.raises(TrainingError, match=f"in use by process {os.getpid()}"):
        folder_lock(tmp_path, TrainingError).__enter__()
    holder(tmp_path, started=1.0)
    with folder_lock(tmp_path, TrainingError):
        pass


def test_an_empty_lock_is_stale(tmp_path: Path) -> None:
    """Its process ended, or the disk was full, before it could write."""
    (tmp_path / LOCK).touch()
    with folder_lock(tmp_path, TrainingError):
        pass


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(FileWriteError, match=r"run\.lock: cannot be written"):
        folder_lock(tmp_path / "file", TrainingError).__enter__()
