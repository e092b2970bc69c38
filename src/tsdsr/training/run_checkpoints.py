"""Checkpoints of one run, written and read by all of its processes together."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor

from tsdsr.errors import FileWriteError, MissingDependencyError, TrainingError
from tsdsr.files import atomic_folder, flush_and_read_back
from tsdsr.folder_lock import folder_lock
from tsdsr.training.checkpoint import (
    DESCRIPTION,
    Checkpoint,
    checkpoint_name,
    delete_old_checkpoints,
    is_sharded,
    newest_checkpoint,
    read_tensors,
    save_checkpoint,
)
from tsdsr.training.processes import failing_together, first_process_says, require_shared_folder


class RunCheckpoints:
    """The checkpoints of a run. Every process calls every method.

    Args:
        folder (Path): run folder. If tensors are whole, only the first process's counts; if they are sharded, all
            processes must see the same one.
        accelerator (Accelerator): the run's.

    Attributes:
        saved (int): step of the newest checkpoint; -1 if there is none.
    """

    def __init__(self, folder: Path, accelerator: Accelerator) -> None:
        self.folder, self.accelerator = folder, accelerator
        self.saved = -1

    def kept(self) -> str:
        """Say what is left of a run that fails now."""
        return f"the checkpoint of step {self.saved} is kept" if self.saved >= 0 else "no step has been saved"

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Lock the run folder for this run within the block.

        Raises:
            TrainingError: another run uses the folder.
        """
        with ExitStack() as stack:
            with failing_together(self.accelerator):
                if self.accelerator.is_main_process:
                    stack.enter_context(folder_lock(self.folder, TrainingError))
            yield

    def newest(self) -> Checkpoint | None:
        """Return the newest checkpoint as the first process sees it.

        Raises:
            TrainingError: it cannot be read.
        """
        found = None
        with failing_together(self.accelerator):
            if self.accelerator.is_main_process:
                found = newest_checkpoint(self.folder)
        return first_process_says(self.accelerator, found)

    def check_folder(self, tensors: Mapping[str, Tensor]) -> None:
        """Check, before training, that checkpoints of these tensors can be written.

        Raises:
            TrainingError: tensors are sharded, and processes do not share the folder.
            MissingDependencyError: tensors are sharded, and torch is too old to store them without pickles.
        """
        if not is_sharded(tensors):
            return
        if torch.torch_version.TorchVersion(torch.__version__) < "2.9":
            raise MissingDependencyError(f"sharded training needs torch 2.9 or newer, found {torch.__version__}")
        require_shared_folder(self.accelerator, self.folder)

    def save(self, step: int, facts: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> None:
        """Store a checkpoint and delete all but the newest two.

        Args:
            step (int): number of finished steps.
            facts (mapping): description of the run, JSON values.
            tensors (mapping): tensors by name, whole or sharded.

        Raises:
            FileWriteError: the checkpoint cannot be written; older ones are untouched.
            TrainingError: it cannot be written by another process.
        """
        if is_sharded(tensors):
            self._save_shards(step, facts, tensors)
        else:
            with failing_together(self.accelerator):
                if self.accelerator.is_main_process:
                    save_checkpoint(self.folder, step, facts, tensors)
        self.saved = step

    def _save_shards(self, step: int, facts: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> None:
        """Let every process write its shards into a temporary folder, which the first one renames."""
        main = self.accelerator.is_main_process
        path = self.folder / checkpoint_name(step)
        with failing_together(self.accelerator), ExitStack() as stack:
            temporary = path
            with failing_together(self.accelerator):
                if main:
                    temporary = stack.enter_context(atomic_folder(path, read_back=False))
            temporary = first_process_says(self.accelerator, temporary)
            with failing_together(self.accelerator):
                self._write_part(temporary, tensors)
                if main:
                    description = json.dumps({**facts, "parts": self.accelerator.num_processes}, indent=1)
                    (temporary / DESCRIPTION).write_text(description, encoding="utf-8")
                    flush_and_read_back(temporary / DESCRIPTION)
        if main:
            delete_old_checkpoints(self.folder)

    def restore(self, checkpoint: Checkpoint, tensors: Mapping[str, Tensor]) -> None:
        """Read a checkpoint into the run's tensors.

        Args:
            checkpoint (Checkpoint): result of :meth:`newest`.
            tensors (mapping): the run's tensors by name, overwritten.

        Raises:
            TrainingError: it cannot be read, or lacks a tensor.
        """
        shards = is_sharded(tensors)
        with failing_together(self.accelerator):
            if shards or self.accelerator.is_main_process:
                read_tensors(checkpoint, tensors)
        if not shards and self.accelerator.num_processes > 1:
            for tensor in tensors.values():
                received = tensor.to(self.accelerator.device)  # NCCL takes no tensors of the CPU
                torch.distributed.broadcast(received, 0)
                tensor.copy_(received)
        self.saved = int(checkpoint.facts["step"])

    def _write_part(self, folder: Path, tensors: Mapping[str, Tensor]) -> None:
        """Write this process's shards as safetensors, together with the other processes.

        Raises:
            FileWriteError: a process cannot write its part.
        """
        from torch.distributed.checkpoint.api import CheckpointException
        from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageWriter
        from torch.distributed.checkpoint.state_dict_saver import save

        packed = {name: tensor.contiguous() for name, tensor in tensors.items()}  # safetensors has no memory formats
        try:
            save(packed, storage_writer=HuggingFaceStorageWriter(str(folder), save_distributed=True))
            for part in folder.glob(f"shard-{self.accelerator.process_index + 1:05d}-*.safetensors"):
                flush_and_read_back(part)
        except CheckpointException as error:
            number, (reason, _) = next(iter(error.failures.items()))
            raise FileWriteError(f"{self.folder}: process {number} cannot write its part ({reason})") from error
