"""Log file, tracker and progress bar of a run."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Mapping
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from types import TracebackType
from typing import Any, Literal

import torch
from accelerate import Accelerator
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from tsdsr.devices import TorchDevice
from tsdsr.errors import ConfigError, FileWriteError, MissingDependencyError, TrainingError, install_extra
from tsdsr.files import write_text
from tsdsr.measuring import peak_memory_so_far
from tsdsr.training.failures import is_lost_process
from tsdsr.wording import first_line

LOST_AFTER = timedelta(minutes=30)
"""Time after which a process that does not answer is taken for lost. The others also wait for a validation."""

TrackerName = Literal["tensorboard", "wandb", "trackio", "none"]


def make_accelerator(output: Path, device: str, tracker: TrackerName = "none") -> Accelerator:
    """Create a run's accelerator: processes and devices from the launcher, precision left to the trainer.

    Args:
        output (Path): run folder; trackers that write files write there.
        device (str): "cpu" disables accelerator hardware.
        tracker (str): destination of metrics besides ``log.jsonl``.

    Raises:
        ConfigError: unknown tracker.
        MissingDependencyError: its package is absent.
        TrainingError: processes do not reach each other.
    """
    from accelerate.utils import DistributedDataParallelKwargs, InitProcessGroupKwargs, LoggerType
    from accelerate.utils.imports import is_tensorboard_available, is_trackio_available, is_wandb_available

    available = {
        "tensorboard": is_tensorboard_available,
        "wandb": is_wandb_available,
        "trackio": is_trackio_available,
        "none": lambda: True,
    }
    if tracker not in available:
        raise ConfigError(f"tracker must be one of {', '.join(available)}, got {tracker!r}")
    if not available[tracker]():
        remedy = install_extra("train") if tracker == "tensorboard" else f"run pip install {tracker}"
        raise MissingDependencyError(f"--tracker {tracker} needs its package: {remedy}, or give --tracker none")
    handlers = [
        DistributedDataParallelKwargs(gradient_as_bucket_view=True),
        InitProcessGroupKwargs(timeout=LOST_AFTER),
    ]
    try:
        return Accelerator(
            cpu=device == "cpu",
            mixed_precision="no",
            log_with=None if tracker == "none" else LoggerType(tracker),
            project_dir=str(output),
            kwargs_handlers=handlers,
        )
    except RuntimeError as error:
        if not is_lost_process(error):
            raise
        raise TrainingError(f"the processes of the run cannot reach each other ({first_line(error)})") from error


class RunLog:
    """Write ``log.jsonl``, feed the tracker and show progress, on the first process only.

    Args:
        output (Path): run folder.
        accelerator (Accelerator): the run's.
        total (int): steps of the whole run.
    """

    def __init__(self, output: Path, accelerator: Accelerator, total: int) -> None:
        self.output, self.accelerator, self.total = output, accelerator, total
        self.main = bool(accelerator.is_main_process)
        self._console = Console(stderr=True)
        self._progress: Progress | None = None
        self._task = TaskID(0)
        self._started, self._first = time.perf_counter(), 0

    def __enter__(self) -> RunLog:
        if self.main and self._console.is_terminal:
            self._progress = Progress(
                TextColumn("step {task.completed}/{task.total}"),
                BarColumn(),
                TextColumn("{task.fields[status]}"),
                TimeRemainingColumn(),
                console=self._console,
            )
            self._progress.start()
            self._task = self._progress.add_task("", total=self.total, status="")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._progress is not None:
            self._progress.stop()
            self._progress = None

    def start_clock(self, step: int) -> None:
        """Measure speed from this step on."""
        self._started, self._first = time.perf_counter(), step

    def speed(self, step: int) -> float:
        """Return steps per second since :meth:`start_clock`."""
        return (step - self._first) / max(1e-9, time.perf_counter() - self._started)

    def note(self, text: str) -> None:
        """Show a text message to the user."""
        if self.main:
            with suppress(OSError, ValueError):  # the reader of the output is gone
                self._console.print(text, markup=False, highlight=False, soft_wrap=True)

    def cut(self, step: int) -> None:
        """Remove log lines after ``step``: a killed run has logged steps after its last checkpoint.

        The run repeats these steps and logs the same values.
        """
        path = self.output / "log.jsonl"
        if not self.main or not path.is_file():
            return
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines(keepends=True)
        kept = [line for line in lines if (logged := _step_of(line)) is not None and logged <= step]
        if kept != lines:
            write_text(path, "".join(kept))

    def start_trackers(self, step: int) -> None:
        """Start the tracker, if there is one. TensorBoard hides what a killed run has recorded after ``step``."""
        if self.accelerator.log_with and not self.accelerator.trackers:
            self.accelerator.init_trackers("tsdsr", init_kwargs={"tensorboard": {"purge_step": step + 1}})

    def advance(self, step: int) -> None:
        """Advance the progress bar."""
        if self._progress is not None:
            device = TorchDevice(torch.device(self.accelerator.device))
            status = f"{self.speed(step):.2f} steps/s, {peak_memory_so_far(device) / 1e9:.1f} GB"
            self._progress.update(self._task, completed=step, status=status)

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Record named values of a step. Non-finite values are stored as null because JSON has no NaN."""
        if not self.main:
            return
        record: dict[str, Any] = {"step": step}
        record |= {k: float(f"{v:.6g}") if math.isfinite(v) else None for k, v in values.items()}
        path = self.output / "log.jsonl"
        try:
            with path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(record) + "\n")
        except OSError as error:
            raise FileWriteError(f"{path}: cannot be written ({error.strerror or error})") from error
        if self._progress is None:
            with suppress(OSError, ValueError):  # the reader of the output is gone
                print(" ".join(f"{k}={v}" for k, v in record.items()), flush=True)
        if self.accelerator.trackers:
            self.accelerator.log({k: v for k, v in values.items() if math.isfinite(v)}, step=step)


def _step_of(line: str) -> int | None:
    """Return the step of a log line; None for a truncated line."""
    try:
        return int(json.loads(line)["step"])
    except (ValueError, KeyError, TypeError):
        return None
