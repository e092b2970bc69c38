"""Atomic, rotated, self-describing checkpoints: a file from one process, or a folder with a part from each.

A checkpoint is a description of its run and a flat table of named tensors. A run that shards its tensors stores a
folder, in which every process writes its own shards (safetensors, by ``torch.distributed.checkpoint``); any other run
stores a file of its first process. Names do not depend on the number of processes, so either form can be resumed by
either kind of run. No form holds a pickle that could run code.
"""

from __future__ import annotations

import json
import shutil
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tsdsr.errors import TrainingError
from tsdsr.files import atomic_path
from tsdsr.training.provenance import FORMAT

DESCRIPTION = "run.json"
"""Description of the run in a checkpoint folder. A folder without it is none: it was being deleted."""

_TENSORS = "tensors"


@dataclass(frozen=True)
class Checkpoint:
    """A stored checkpoint, of which the tensors are not read yet.

    Attributes:
        path (Path): file, or folder of a sharded run.
        facts (dict): description of the run.
        names (frozenset of str): names of its tensors.
    """

    path: Path
    facts: dict[str, Any]
    names: frozenset[str]


def is_sharded(tensors: Mapping[str, Tensor]) -> bool:
    """Whether processes hold parts of these tensors only."""
    if not torch.distributed.is_available():
        return False
    from torch.distributed.tensor import DTensor

    return any(isinstance(tensor, DTensor) for tensor in tensors.values())


def checkpoint_name(step: int) -> str:
    """Return the name of a checkpoint, without the suffix of a file; names sort by step."""
    return f"checkpoint-{step:08d}"


def save_checkpoint(
    folder: Path, step: int, facts: Mapping[str, Any], tensors: Mapping[str, Tensor], keep: int = 2
) -> Path:
    """Write ``checkpoint-<step>.pt`` under a temporary name, rename it, then delete all but the newest ``keep``.

    Args:
        folder (Path): folder of checkpoints; created if missing.
        step (int): number of finished steps.
        facts (mapping): description of the run: numbers, strings and containers of these.
        tensors (mapping): whole tensors by name.
        keep (int): number of checkpoints to keep.
    """
    path = folder / f"{checkpoint_name(step)}.pt"
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        try:
            torch.save({**facts, _TENSORS: dict(tensors)}, file)
        except RuntimeError as error:
            if isinstance(error.__context__, OSError):  # torch hides that the disk is full
                raise error.__context__ from error
            raise
    delete_old_checkpoints(folder, keep)
    return path


def delete_old_checkpoints(folder: Path, keep: int = 2) -> None:
    """Delete all checkpoints but the newest ``keep``."""
    for old in _checkpoints(folder)[:-keep]:
        if old.is_dir():
            (old / DESCRIPTION).unlink()
            shutil.rmtree(old)
        else:
            old.unlink()


def newest_checkpoint(folder: Path) -> Checkpoint | None:
    """Read the description of the newest checkpoint; None if there is none.

    Raises:
        TrainingError: it cannot be read.
    """
    paths = _checkpoints(folder)
    if not paths:
        return None
    if paths[-1].is_dir():
        return _describe_folder(paths[-1])
    facts = _load_file(paths[-1])
    return Checkpoint(paths[-1], facts, frozenset(facts.pop(_TENSORS, ())))


def load_checkpoint_facts(folder: Path) -> dict[str, Any] | None:
    """Load the newest checkpoint's description of its run, without tensors; None if there is no checkpoint.

    Raises:
        TrainingError: the newest checkpoint cannot be read.
    """
    found = newest_checkpoint(folder)
    return None if found is None else found.facts


def read_tensors(checkpoint: Checkpoint, into: Mapping[str, Tensor]) -> None:
    """Read a checkpoint's tensors into existing ones of the same names, of which sharded ones take their part only.

    Processes need not agree on when they call this.

    Args:
        checkpoint (Checkpoint): of a run with any number of processes, sharded or not.
        into (mapping): tensors to overwrite.

    Raises:
        TrainingError: the checkpoint cannot be read, or lacks one of the tensors.
    """
    if missing := sorted(into.keys() - checkpoint.names):
        raise TrainingError(f"{checkpoint.path}: does not contain {missing[0]}; choose another output folder")
    with torch.no_grad():
        if checkpoint.path.is_dir():
            _read_folder(checkpoint.path, into)
            return
        stored = _load_file(checkpoint.path)[_TENSORS]
        for name, tensor in into.items():
            if is_sharded({name: tensor}):
                _copy_part(stored[name], tensor)
            else:
                tensor.copy_(stored[name])


def _checkpoints(folder: Path) -> list[Path]:
    """Return the checkpoints of a folder, the newest last."""
    files = (*folder.glob("checkpoint-*.pt"), *(path.parent for path in folder.glob(f"checkpoint-*/{DESCRIPTION}")))
    return sorted(files, key=lambda path: path.name)


def _load_file(path: Path) -> dict[str, Any]:
    """Open a checkpoint file; its tensors are read when they are used."""
    try:
        state: dict[str, Any] = torch.load(path, map_location="cpu", mmap=True, weights_only=True)
    except Exception as error:  # for a damaged file torch raises pickle, zip, lookup or runtime errors
        raise _damaged(path, error) from error
    return _upgraded(state) if state.get("format") == 4 else state


def _copy_part(whole: Tensor, into: Any) -> None:
    """Copy this process's part of a tensor into its sharded one; nothing is sent."""
    from torch.distributed.tensor import distribute_tensor

    shards = distribute_tensor(whole.to(into.device), into.device_mesh, into.placements, src_data_rank=None)
    into.to_local().copy_(shards.to_local())


def _describe_folder(path: Path) -> Checkpoint:
    from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageReader

    try:
        facts = json.loads((path / DESCRIPTION).read_text(encoding="utf-8"))
        parts = len(list(path.glob("*.safetensors")))
        if parts != facts["parts"]:
            raise OSError(f"{parts} of its {facts['parts']} parts are there")
        names = HuggingFaceStorageReader(str(path)).read_metadata().state_dict_metadata
    except Exception as error:  # for damaged files json and safetensors raise errors of their own
        raise _damaged(path, error) from error
    return Checkpoint(path, facts, frozenset(names))


def _read_folder(path: Path, into: Mapping[str, Tensor]) -> None:
    """Read the shards that overlap with this process's."""
    from torch.distributed.checkpoint.api import CheckpointException
    from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageReader
    from torch.distributed.checkpoint.state_dict_loader import load

    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "torch.distributed is disabled", UserWarning)  # each reads for itself
            load(dict(into), storage_reader=HuggingFaceStorageReader(str(path)), no_dist=True)
    except CheckpointException as error:
        raise _damaged(path, next(iter(error.failures.values()))[0]) from error


def _damaged(path: Path, error: BaseException) -> TrainingError:
    return TrainingError(f"{path}: cannot be read ({error}); delete it to resume from an older one")


def _upgraded(state: dict[str, Any]) -> dict[str, Any]:
    """Convert format 4, which numbered what the optimiser and the average hold; they follow the order of weights."""
    tensors: dict[str, Tensor] = {}
    for role, stored in state["roles"].items():
        names = list(stored["weights"])
        tensors |= {f"{role}.{kind}.{k}": v for kind in ("weights", "buffers") for k, v in stored[kind].items()}
        for number, moments in stored["optimizer"]["state"].items():
            tensors |= {f"{role}.{kind}.{names[number]}": value for kind, value in moments.items()}
    averaged = "student" if "pairs" in json.loads(state["config"]) else "teacher"
    average = zip(state["roles"][averaged]["weights"], state["ema"]["shadow_params"], strict=True)
    kept = {name: value for name, value in state.items() if name not in ("roles", "ema")}
    return kept | {
        "format": FORMAT,
        "scalers": {role: stored["scaler"] for role, stored in state["roles"].items()},
        "averaged_steps": state["ema"]["optimization_step"],
        _TENSORS: tensors | {f"average.{name}": value for name, value in average},
    }
