"""Atomic, rotated, self-describing checkpoints."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from tsdsr.errors import TrainingError
from tsdsr.files import atomic_path


def save_checkpoint(folder: Path, step: int, state: dict[str, Any], keep: int = 2) -> Path:
    """Write ``checkpoint-<step>.pt`` under a temporary name, rename it, then delete all but the newest ``keep``.

    Args:
        folder (Path): folder of checkpoints; created if missing.
        step (int): number of finished steps.
        state (dict): tensors, numbers, strings and containers of these.
        keep (int): number of checkpoints to keep.
    """
    path = folder / f"checkpoint-{step:08d}.pt"
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        try:
            torch.save(state, file)
        except RuntimeError as error:
            if isinstance(error.__context__, OSError):  # torch hides that the disk is full
                raise error.__context__ from error
            raise
    for old in sorted(folder.glob("checkpoint-*.pt"))[:-keep]:
        old.unlink()
    return path


def load_latest_checkpoint(folder: Path) -> dict[str, Any] | None:
    """Load the newest checkpoint's state on the CPU; None if there is no checkpoint.

    Raises:
        TrainingError: the newest file cannot be read.
    """
    return _load_latest(folder, mmap=False)


def load_checkpoint_facts(folder: Path) -> dict[str, Any] | None:
    """Load the newest checkpoint's description of its run, without tensors; None if there is no checkpoint.

    Raises:
        TrainingError: the newest file cannot be read.
    """
    state = _load_latest(folder, mmap=True)
    return None if state is None else {name: value for name, value in state.items() if name not in ("roles", "ema")}


def _load_latest(folder: Path, mmap: bool) -> dict[str, Any] | None:
    paths = sorted(folder.glob("checkpoint-*.pt"))
    if not paths:
        return None
    try:
        state: dict[str, Any] = torch.load(paths[-1], map_location="cpu", mmap=mmap, weights_only=True)
    except Exception as error:  # for a damaged file torch raises pickle, zip, lookup or runtime errors
        raise TrainingError(f"{paths[-1]}: cannot be read ({error}); delete it to resume from an older one") from error
    return state
