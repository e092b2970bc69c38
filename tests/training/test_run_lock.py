"""Only one run at a time may use a folder."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from tsdsr.errors import TrainingError
from tsdsr.training.run_lock import LOCK, run_lock


def holder(folder: Path, **changes: object) -> None:
    """A lock as this process would hold it, with some entries changed."""
    own = {"pid": os.getpid(), "host": socket.gethostname(), "started": psutil.Process().create_time()}
    (folder / LOCK).write_text(json.dumps(own | changes))


def test_a_folder_is_held_within_the_block(tmp_path: Path) -> None:
    with run_lock(tmp_path / "run"):
        with pytest.raises(TrainingError, match=f"is in use by process {os.getpid()}"), run_lock(tmp_path / "run"):
            pass
        assert (tmp_path / "run" / LOCK).exists()
    with run_lock(tmp_path / "run"):
        pass
    assert list((tmp_path / "run").iterdir()) == []


def test_the_lock_of_a_dead_process_is_taken_over(tmp_path: Path) -> None:
    process = subprocess.Popen([sys.executable, "-c", "pass"])
    process.wait()
    holder(tmp_path, pid=process.pid)
    with run_lock(tmp_path):
        assert json.loads((tmp_path / LOCK).read_text())["pid"] == os.getpid()


def test_a_process_number_that_was_given_out_again_does_not_count(tmp_path: Path) -> None:
    holder(tmp_path, started=1.0)
    with run_lock(tmp_path):
        pass


def test_other_machines_cannot_be_asked(tmp_path: Path) -> None:
    holder(tmp_path, host="elsewhere")
    with pytest.raises(TrainingError, match=r"on elsewhere; if that run is no longer alive, delete .*run.lock"):
        run_lock(tmp_path).__enter__()
    (tmp_path / LOCK).write_text("x")
    with pytest.raises(TrainingError, match="delete it"):
        run_lock(tmp_path).__enter__()
