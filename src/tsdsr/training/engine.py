"""Training loop shared by students and teachers: steps, checkpoints, exact resume, skipped steps.

All random numbers depend only on the seed and the sample number. A run that is killed and restarted therefore
continues exactly, and one process, several processes or accumulated micro-batches see the same samples and noise.
"""

from __future__ import annotations

import json
import signal
from abc import ABC, abstractmethod
from collections.abc import Generator, Mapping, Sequence
from contextlib import AbstractContextManager, closing, nullcontext, suppress
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from diffusers.training_utils import EMAModel
from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule
from torch.utils.data import Dataset

from tsdsr.devices import TorchDevice, to_device
from tsdsr.errors import ConfigError, TrainingError
from tsdsr.measuring import peak_memory_so_far
from tsdsr.models.conditioning import Conditioning
from tsdsr.training.batches import device_batches, step_batches
from tsdsr.training.config import RunConfig
from tsdsr.training.failures import failures_explained, require_finite_weights, stuck
from tsdsr.training.interrupts import RunInterrupted, StopRequest, ValidationStopped
from tsdsr.training.launch import check_launch, data_parallel, leave_group
from tsdsr.training.networks import channels_last
from tsdsr.training.optim import RoleOptimizer
from tsdsr.training.processes import failing_together, require_equal
from tsdsr.training.provenance import FORMAT, RunFiles, fingerprints, photographs_fingerprint, require_same_run
from tsdsr.training.run_checkpoints import RunCheckpoints
from tsdsr.training.run_log import RunLog
from tsdsr.training.run_state import RunState
from tsdsr.training.samples import TrainingData, TrainingSample
from tsdsr.training.sharding import ShardMode, shard_networks


class NonFiniteError(Exception):
    """A loss or gradient is not finite; the step must be skipped."""


class Engine(ABC):
    """One training run in one folder; subclasses define the step.

    Args:
        config (RunConfig): the run's settings.
        output (Path): folder of checkpoints, logs and results; an interrupted run there is resumed.
        accelerator (Accelerator): single- or multi-process.
        dtype (torch.dtype): autocast precision; float32 means none.
        workers (int): data loading processes.
        files (RunFiles): paths that the networks were loaded from; stored with every checkpoint.
        shard (ShardMode | None): how networks are split over the processes; None keeps them whole on each.
    """

    data: TrainingData

    def __init__(
        self,
        config: RunConfig,
        output: Path,
        accelerator: Accelerator,
        dtype: torch.dtype,
        workers: int,
        files: RunFiles | None = None,
        shard: ShardMode | None = None,
    ) -> None:
        check_launch(config, accelerator, dtype, shard)
        require_equal(accelerator, {**json.loads(config.to_json()), "shard": shard}, "settings")
        self.config, self.output, self.accelerator, self.dtype = config, Path(output), accelerator, dtype
        self.device = torch.device(accelerator.device)
        self.workers, self.files, self.shard = workers, files or RunFiles(), shard
        self._sharded: FSDPModule | None = None
        self.run_log = RunLog(self.output, accelerator, config.total_steps)
        self.roles: dict[str, RoleOptimizer] = {}
        self.step, self.skipped = 0, 0
        self.checkpoints = RunCheckpoints(self.output, accelerator)
        self._stop = StopRequest(lambda: self.run_log.note("stopping after this step; Ctrl+C again stops at once"))
        self._stopping = False  # agreed by all processes
        self.ema: EMAModel | None = None
        self._made_from: dict[str, str] | None = None
        self._averaged = ""

    # Defined by subclasses

    @abstractmethod
    def dataset(self, length: int) -> Dataset[TrainingSample]:
        """Return samples numbered from 0. A sample depends only on its number and the seed."""

    @abstractmethod
    def train_step(self, batches: Sequence[TrainingSample]) -> dict[str, Tensor]:
        """Take one step on this process's micro-batches and return metrics averaged over them.

        Raises:
            NonFiniteError: a loss or gradient is not finite; the step was not taken.
        """

    @abstractmethod
    def validate(self) -> dict[str, float]:
        """Compute metrics on the held-out photographs, if any.

        Called on the first process, and on the others if networks are sharded; only the first writes files.

        Raises:
            ValidationStopped: see :meth:`stop_validation_if_asked`.
        """

    def stop_validation_if_asked(self) -> None:
        """Raise ValidationStopped if the run is to stop; called between photographs."""
        asked = torch.full((), float(self._stop.requested), device=self.device)
        if self._sharded is not None:
            asked = self.accelerator.reduce(asked, "sum")
        if asked:
            raise ValidationStopped

    def monitor(self) -> dict[str, float]:
        """Return measurements of the last step that are not needed at every step; none by default."""
        return {}

    # The loop

    def run(self, until: int | None = None) -> None:
        """Train up to global step ``until`` (None: the end; 0: not at all). The caller stores the result.

        Ctrl-C, SIGTERM and SIGHUP end the run after the current step, with a checkpoint.

        Raises:
            ConfigError: ``until`` is negative.
            TrainingError: another run uses the folder, more consecutive steps than allowed had a non-finite loss or
                gradient, or weights are not finite.
            OutOfMemoryError, FileWriteError: memory ran out, or a file cannot be written.
            RunInterrupted: a signal, after the checkpoint was saved; a KeyboardInterrupt.
        """
        until = self.config.total_steps if until is None else min(until, self.config.total_steps)
        if until < 0:
            raise ConfigError(f"until must be at least 0, got {until}")
        require_equal(self.accelerator, {"until": until}, "settings")
        if self.step < until or self.checkpoints.saved < 0:  # until=0 still records what the run is
            processes = self.accelerator.num_processes
            explained = failures_explained(self.config, processes, lambda: self.step, self.checkpoints.kept)
            lock = self.checkpoints.locked()
            with lock, self.run_log, self._stop.listening(), explained, closing(self._steps(until)) as steps:
                self._begin()
                for batches in steps:
                    self._one_step(batches)
                    self._stopping |= processes == 1 and self._stop.requested
                    if self._stopping:
                        break
                self._save()
        self.accelerator.wait_for_everyone()
        if self._stopping:
            self.run_log.note(f"stopped at step {self.step} of {self.config.total_steps}; repeat the run to continue")
            self.close()
            raise RunInterrupted(self._stop.signum or signal.SIGINT)

    def _begin(self) -> None:
        """Check that the folder is as this run left it, and report what will be missing."""
        newest = self.checkpoints.newest()
        if newest is not None and (step := newest.facts["step"]) != self.checkpoints.saved:
            raise TrainingError(f"{self.output}: another run is at step {step}; start again to continue it")
        self.run_log.cut(self.step)
        self.run_log.start_trackers(self.step)
        if not self.data.validation:
            self.run_log.note("no photograph is held out, so there is no validation")
        self.run_log.start_clock(self.step)

    def close(self) -> None:
        """Close trackers and leave the process group. A process that exits without this may crash the others."""
        leave_group(self.accelerator, self)

    def _one_step(self, batches: Sequence[TrainingSample]) -> None:
        try:
            figures = self.train_step(batches)
            self.skipped = 0
        except NonFiniteError as error:
            figures = {}
            self._skip(batches, error)
        extra = self.monitor()
        self.step += 1
        self.run_log.advance(self.step)
        every = self.config
        if extra or (figures and self.step % every.log_every == 0):
            values = self._average(figures) if figures else {}
            values |= {
                "steps_per_second": self.run_log.speed(self.step),
                "memory_gb": peak_memory_so_far(TorchDevice(self.device)) / 1e9,
            }
            self.run_log.log(self.step, values | extra)
        if self.step % every.validate_every == 0 and self.takes_part:
            with suppress(ValidationStopped):
                if found := self.validate():
                    self.run_log.log(self.step, {f"validation/{name}": value for name, value in found.items()})
        if self.step % every.checkpoint_every == 0:
            self._save()

    def learning_rate(self, rates: tuple[float, float] | None = None) -> float:
        """Return the current step's learning rate; ``rates`` replaces the phase's own for another role."""
        number, phase_step = self.config.find(self.step)
        return self.config.phases[number].learning_rate(phase_step, rates)

    @property
    def takes_part(self) -> bool:
        """Whether this process takes part in what the first one does alone if it has whole networks."""
        return self._sharded is not None or bool(self.accelerator.is_main_process)

    def place(self, *networks: nn.Module) -> None:
        """Move the run's networks to its device or, if it was started so, shard them over its processes."""
        if self.shard is not None:
            self._sharded = shard_networks(networks, self.accelerator, self.shard == "offload")
            return
        for network in networks:
            channels_last(network.to(self.device))

    def prepare(self, name: str, module: nn.Module, trained: Mapping[str, nn.Parameter]) -> nn.Module:
        """Register a module as a role, with the weights that it trains by name, and wrap it for several processes."""
        role = self.roles[name] = RoleOptimizer(module, trained, self.config, self.device, self.dtype)
        return module if role.sharded else data_parallel(self.accelerator, module, role.parameters)

    def average(self, name: str) -> None:
        """Keep an exponential moving average of a role's weights, to validate and store."""
        self.ema = EMAModel(self.roles[name].parts(), decay=self.config.ema_decay, foreach=True)
        self._averaged = name

    def averaged(self) -> AbstractContextManager[None]:
        """Give the averaged role its averaged weights within the block."""
        assert self.ema is not None
        return self.roles[self._averaged].with_values(self.ema)

    def on_device(self, prompt: Conditioning) -> Conditioning:
        """Copy a prompt to the run's device, embeddings in float32, without waiting for the device."""
        tensors = prompt.to("cpu", torch.float32).tensors()
        return Conditioning(**{name: to_device(tensor, self.device) for name, tensor in tensors.items()})

    def accumulating(self, module: nn.Module, last: bool) -> Any:
        """Return a context without gradient exchange between processes before the last micro-batch."""
        if self._sharded is not None:
            self._sharded.set_requires_gradient_sync(last)
        return nullcontext() if last else self.accelerator.no_sync(module)

    def update(self, losses: Mapping[str, Tensor], rates: Mapping[str, float]) -> dict[str, Tensor]:
        """Update all roles with their accumulated gradients, or none of them.

        The student's loss depends on the fake network, and the fake network learns this student's distribution. If
        one were updated without the other, the two would belong to different steps, and a permanently failing fake
        network would not stop the run. One non-finite loss or gradient therefore skips the step for every role:
        weights, averages and optimisers stay unchanged; only loss scales change. The values are read once, which is
        the step's only wait for the device.

        Args:
            losses (mapping): scalar loss of each role, only checked to be finite.
            rates (mapping): learning rate of each role.

        Returns:
            dict: ``grad_norm/<role>``, before clipping.

        Raises:
            NonFiniteError: on all processes, if any of them has a non-finite value.
        """
        norms = {name: self.roles[name].gradient_norm() for name in losses}
        seen = torch.stack([x.detach().float() for name in losses for x in (losses[name], norms[name])])
        stop = torch.full((), float(self._stop.requested), device=self.device)
        flags = torch.stack([(~torch.isfinite(seen)).any().float(), stop])
        bad, stopping = self.accelerator.reduce(flags, "sum").tolist()
        self._stopping = stopping > 0
        if bad:
            for name in losses:
                self.roles[name].finish()
            values = zip(losses, seen.reshape(-1, 2).tolist(), strict=True)
            raise NonFiniteError("; ".join(f"{name}: loss {a:g}, gradient norm {b:g}" for name, (a, b) in values))
        for name, rate in rates.items():
            self.roles[name].step(rate)
        if self._averaged in rates:
            assert self.ema is not None
            self.ema.step(self.roles[self._averaged].parts())
        return {f"grad_norm/{name}": norm for name, norm in norms.items()}

    def _skip(self, batches: Sequence[TrainingSample], error: NonFiniteError) -> None:
        self.skipped += 1
        self.run_log.log(self.step + 1, {"skipped": self.skipped})
        if self.skipped <= self.config.max_skipped:
            return
        path = self.output / f"bad-step-{self.step:08d}-rank{self.accelerator.process_index}.safetensors"
        raise stuck(batches, path, f"step {self.step}: {error}; {self.skipped}")

    def _average(self, figures: Mapping[str, Tensor]) -> dict[str, float]:
        names = sorted(figures)
        stacked = torch.stack([figures[name].detach().float().to(self.device) for name in names])
        return dict(zip(names, self.accelerator.reduce(stacked, "mean").tolist(), strict=True))

    def _steps(self, until: int) -> Generator[list[TrainingSample], None, None]:
        """Yield this process's micro-batches from the current step on, on its device."""
        place = (self.accelerator.process_index, self.accelerator.num_processes)
        pin = self.device.type == "cuda"
        with closing(step_batches(self.config, self.dataset, self.step, until, *place, self.workers, pin)) as steps:
            yield from device_batches(steps, self.device)

    def _state(self) -> RunState:
        return RunState(self.roles, self.ema, self._averaged)

    def _save(self) -> None:
        if self.step == self.checkpoints.saved:
            return
        with failing_together(self.accelerator):
            require_finite_weights(self.roles, f"{self.output}: step {self.step}", self.checkpoints.kept())
        facts = {
            "format": FORMAT,
            "config": self.config.to_json(),
            "made_from": self.made_from(),
            "files": self.files.to_plain(),
            "step": self.step,
            "skipped": self.skipped,
            **self._state().facts(),
        }
        self.checkpoints.save(self.step, facts, self._state().tensors())

    def made_from(self) -> dict[str, str]:
        """Return the inputs that define the run besides its settings: photographs, weights, precision.

        The number of processes is not included: it changes results only by rounding.
        """
        if self._made_from is None:
            self._made_from = {
                "photographs": photographs_fingerprint(self.data),
                "precision": str(self.dtype).removeprefix("torch."),
                **fingerprints(self.files, self.config.networks),
            }
        return self._made_from

    def resume(self) -> None:
        """Resume the run in the output folder, if there is one.

        Raises:
            TrainingError: the folder contains a run with other settings, photographs, weights or precision, or one in
                an older format; the message names what differs. Also if processes differ in these.
        """
        require_equal(self.accelerator, self.made_from(), "files or precision")
        self.checkpoints.check_folder(self._state().tensors())
        newest = self.checkpoints.newest()
        if newest is None:
            return
        require_same_run(self.output, newest.facts, self.config.to_json(), self.made_from())
        self.step, self.skipped = int(newest.facts["step"]), int(newest.facts["skipped"])
        self._state().prepare(newest)
        self.checkpoints.restore(newest, self._state().tensors())
