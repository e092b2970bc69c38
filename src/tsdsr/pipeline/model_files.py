"""Facts about a model that its files show before it is loaded. Imports no torch."""

from __future__ import annotations

import json
import os
from importlib.resources import files
from pathlib import Path

from tsdsr.errors import ModelNotFoundError
from tsdsr.files import StrPath
from tsdsr.hashing import hash_model

PACKAGED_MODELS = ("mini",)
"""Models whose weights are part of the package."""

MODEL_INDEX = "model_index.json"
"""Index file of a pipeline folder."""

EXPORT_INDEX = "tsdsr.json"
"""Index file of a folder made by ``tsdsr export``, in place of :data:`MODEL_INDEX`."""


def local_folder(model: StrPath) -> Path | None:
    """Return the folder of a packaged model or of a model on disk; None if the name means something else."""
    name = os.fspath(model)
    if name in PACKAGED_MODELS:
        return Path(str(files("tsdsr") / "weights" / name))
    return Path(name) if os.path.isdir(name) else None


def hash_of_model(model: StrPath) -> str:
    """Return the hash of a model's weights and configuration; a model on the hub is downloaded first.

    Raises:
        ModelNotFoundError, GatedModelError: see :func:`~tsdsr.pipeline.loading.resolve_model`.
        ModelNotFoundError: the folder holds no model; it may be large, so it is not read.
        ModelError: its files cannot be read.
    """
    folder = local_folder(model)
    if folder is None:
        from tsdsr.pipeline.loading import resolve_model

        folder = resolve_model(model)
    require_index(folder)
    return hash_model(folder)


def require_index(folder: Path) -> None:
    """Check that a folder holds a pipeline or an exported model.

    Raises:
        ModelNotFoundError: it holds no index of a pipeline or of an exported model.
    """
    if not is_model(folder):
        raise ModelNotFoundError(f"{folder}: holds no {MODEL_INDEX}; make a pipeline folder with 'tsdsr convert'")


def base_model(folder: Path) -> str | None:
    """Return the name of a model's base model in :data:`tsdsr.models.zoo.SPECS`; None if its index does not name it."""
    for name in (EXPORT_INDEX, MODEL_INDEX):
        try:
            model = json.loads((folder / name).read_text(encoding="utf-8")).get("model", "mini")
        except (OSError, ValueError, AttributeError):
            continue
        return model if isinstance(model, str) else None
    return None


def is_model(folder: Path) -> bool:
    """Return whether a folder holds a pipeline or an exported model, rather than, say, images."""
    return is_exported(folder) or (folder / MODEL_INDEX).is_file()


def is_exported(folder: Path) -> bool:
    """Return whether a folder holds a model made by ``tsdsr export``."""
    return (folder / EXPORT_INDEX).is_file()
