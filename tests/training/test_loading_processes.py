"""The data loading processes of a run end with it, however it ends, though they ignore the signals that end others."""

from __future__ import annotations

import gc
import multiprocessing
import subprocess
import sys
import time
from collections.abc import Generator
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import pytest
import torch.utils.data
from torch.utils.data import Dataset

from tests.child_processes import finished
from tests.training.tiny import config, trainer
from tsdsr.training.batches import step_batches
from tsdsr.training.samples import TrainingSample

COMMAND = [sys.executable, "-m", "tsdsr", "train", "student", "--recipe", "mini_smoke", "--tracker", "none"]
COMMAND += ["--device", "cpu", "--dtype", "fp32"]


class Numbers(Dataset[TrainingSample]):
    """Samples of nothing but their number; the first ``quick`` of them, then a process takes for ever."""

    def __init__(self, length: int, quick: int) -> None:
        self.length, self.quick = length, quick

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, number: int) -> TrainingSample:
        if number >= self.quick:
            time.sleep(3600)
        return TrainingSample(*(torch.tensor([number]) for _ in TrainingSample._fields))


def numbers(quick: int, workers: int = 2) -> Generator[list[TrainingSample], None, None]:
    return step_batches(config(), lambda length: Numbers(length, quick), 0, 3, workers=workers)


@pytest.mark.parametrize("workers", [1, 2])
def test_the_command_ends_after_an_error_in_a_data_loading_process(tmp_path: Path, workers: int) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    for number in range(8):
        (photos / f"{number}.png").write_bytes(b"no picture")
    try:
        done = finished(
            [*COMMAND, "--photos", str(photos), "-o", str(tmp_path / "run"), "--workers", str(workers)], 120, text=True
        )
    except subprocess.TimeoutExpired as error:
        pytest.fail(f"does not end after {error.stderr!r}")
    assert done.returncode == 2, done.stderr
    assert "images cannot be used" in done.stderr.splitlines()[-1]


def test_an_error_in_the_trainer_ends_them_while_the_traceback_is_alive(photo_folder: Path, tmp_path: Path) -> None:
    run = trainer(photo_folder, tmp_path / "run", workers=2)

    def train_step(_: object) -> Any:
        assert len(multiprocessing.active_children()) == 2
        raise LookupError

    run.train_step = train_step  # type: ignore[method-assign]
    with pytest.raises(LookupError) as caught:
        run.run()
    assert multiprocessing.active_children() == []
    assert caught.traceback


def test_they_end_with_the_last_step() -> None:
    batches = numbers(quick=1000)
    assert [int(micro.x_lq[0]) for step in batches for micro in step] == [0, 2, 4]
    assert multiprocessing.active_children() == []
    batches.close()


def test_one_that_hangs_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.utils.data._utils, "MP_STATUS_CHECK_INTERVAL", 0.2)
    batches = numbers(quick=2)
    next(batches)
    time.sleep(0.5)  # both are in the third sample or later
    batches.close()
    for process in multiprocessing.active_children():
        process.join(10)
    assert multiprocessing.active_children() == []


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # torch deletes half an iterator
def test_those_that_were_started_end_if_another_cannot_be(monkeypatch: pytest.MonkeyPatch) -> None:
    honest, seen = BaseProcess.start, list[BaseProcess]()

    def start(process: BaseProcess) -> None:
        if seen:
            raise BlockingIOError(11, "Resource temporarily unavailable")
        honest(process)
        seen.append(process)

    monkeypatch.setattr(BaseProcess, "start", start)
    with pytest.raises(BlockingIOError) as caught:
        next(numbers(quick=1000))
    seen[0].join(10)
    assert not seen[0].is_alive()
    del caught
    gc.collect()
