"""Failures of the machine end a run with one sentence, and with what is left of it."""

from __future__ import annotations

import dataclasses
import errno
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.training.tiny import assert_same, config, trainer, weights
from tsdsr.errors import DatasetError, FileWriteError, OutOfMemoryError, TrainingError
from tsdsr.training.batches import _errors_of_workers
from tsdsr.training.checkpoint import load_checkpoint_facts
from tsdsr.training.student import StudentTrainer


def failing(run: StudentTrainer, step: int, error: BaseException) -> StudentTrainer:
    """Let a step of a run fail."""
    honest = run.train_step

    def train_step(batches: Any) -> Any:
        if run.step == step:
            raise error
        return honest(batches)

    run.train_step = train_step  # type: ignore[method-assign]
    return run


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
        RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory"),
        RuntimeError("could not create a primitive"),
        MemoryError(),
    ],
)
def test_lack_of_memory_names_batch_and_crop_and_keeps_the_checkpoint(
    photo_folder: Path, tmp_path: Path, error: Exception
) -> None:
    settings = config(checkpoint_every=2)
    with pytest.raises(
        OutOfMemoryError,
        match=r"step 3: out of memory with batch_size=2 and crops of 32 pixels; the checkpoint of step 2 is kept; "
        r"repeat the command with --set accumulation=2",
    ):
        failing(trainer(photo_folder, tmp_path, settings), 3, error).run()
    rest = trainer(photo_folder, tmp_path, dataclasses.replace(settings, accumulation=2))  # as the message says
    assert rest.step == 2
    with pytest.raises(OutOfMemoryError, match="start a run with smaller crops"):
        failing(rest, 3, error).run()


def test_other_errors_are_not_disguised(photo_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="a fault of the program"):
        failing(trainer(photo_folder, tmp_path), 0, RuntimeError("a fault of the program")).run()


def test_a_dead_data_loading_process_is_explained(photo_folder: Path, tmp_path: Path) -> None:
    dead = RuntimeError("DataLoader worker (pid 7) is killed by signal: Bus error.\nmore lines")
    with pytest.raises(TrainingError, match=r"step 0: .*Bus error\..*; no step has been saved; .*--shm-size"):
        failing(trainer(photo_folder, tmp_path), 0, dead).run()


def full_disk(step: int, honest: Callable[..., Any]) -> Callable[..., Any]:
    """A ``torch.save`` that runs out of space at a step, after it has written a part."""

    def save(state: Any, file: Any) -> None:
        if state["step"] < step:
            honest(state, file)
            return
        file.write(b"part")
        try:
            raise OSError(errno.ENOSPC, "No space left on device")
        except OSError:
            raise RuntimeError("[enforce fail at inline_container.cc:672] . unexpected pos 704 vs 598")  # noqa: B904

    return save


def test_a_full_disk_leaves_the_old_checkpoint(
    photo_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = trainer(photo_folder, tmp_path / "run", config(checkpoint_every=2))
    monkeypatch.setattr(torch, "save", full_disk(4, torch.save))
    message = (
        r"checkpoint-00000004\.pt: cannot be written \(No space left on device\); the checkpoint of step 2 is kept"
    )
    with pytest.raises(FileWriteError, match=message):
        run.run()
    monkeypatch.undo()
    assert sorted(p.name for p in (tmp_path / "run").iterdir()) == ["checkpoint-00000002.pt", "log.jsonl"]
    rest = trainer(photo_folder, tmp_path / "run", config(checkpoint_every=2))
    assert rest.step == 2
    rest.run()
    whole = trainer(photo_folder, tmp_path / "whole", config(checkpoint_every=2))
    whole.run()
    assert_same(weights(whole), weights(rest))


def test_a_checkpoint_never_holds_weights_that_are_not_finite(photo_folder: Path, tmp_path: Path) -> None:
    run = trainer(photo_folder, tmp_path, config(checkpoint_every=2))
    run.run(until=2)
    honest = run.train_step

    def train_step(batches: Any) -> Any:
        figures = honest(batches)
        with torch.no_grad():
            run.roles["student"].parameters[0].fill_(torch.nan)
        return figures

    run.train_step = train_step  # type: ignore[method-assign]
    with pytest.raises(TrainingError, match=r"step 3: the run has diverged, .*student .*; the checkpoint of step 2 is"):
        run.run(until=3)
    facts = load_checkpoint_facts(tmp_path)
    assert facts is not None
    assert facts["step"] == 2


def test_errors_of_data_loading_processes_are_one_sentence() -> None:
    def loader() -> Any:
        yield 1
        raise DatasetError(
            "Caught DatasetError in DataLoader worker process 0.\nOriginal Traceback (most recent call last):\n"
            '  File "x.py", line 1, in f\ntsdsr.errors.DatasetError: 5 of 14 images cannot be used: a.jpg\n'
        )

    batches = _errors_of_workers(loader())
    assert next(batches) == 1
    with pytest.raises(DatasetError) as found:
        next(batches)
    assert str(found.value) == "5 of 14 images cannot be used: a.jpg"
