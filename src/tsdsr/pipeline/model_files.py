"""Facts about a model that its files show before it is loaded. Imports no torch."""

from __future__ import annotations

import json
import os
from importlib.resources import files
from pathlib import Path

from tsdsr.errors import InvalidInputError, ModelNotFoundError
from tsdsr.files import StrPath
from tsdsr.hashing import hash_model
from tsdsr.models.zoo import SPECS

PACKAGED_MODELS = ("mini",)
"""Models whose weights are part of the package."""

MODEL_INDEX = "model_index.json"
"""Index file of a pipeline folder."""

MINI_GRAPH = "denoiser/model.onnx"
"""Graph of `mini` for ONNX Runtime in a pipeline folder: scaled latent ``z_lq`` → ``z_hat``."""

MINI_FAST_GRAPH = "denoiser/model.int8.onnx"
"""The same with 8-bit arithmetic."""

PARTS = ("denoiser", "vae", "prompt")
"""Parts of a pipeline: subfolders of its folder."""

EXPORT_INDEX = "tsdsr.json"
"""Index file of a folder made by ``tsdsr export``, in place of :data:`MODEL_INDEX`."""

GRAPHS = ("encoder", "denoiser", "decoder")
"""The graphs of an exported pipeline."""


def local_folder(model: StrPath) -> Path | None:
    """Return the folder of a packaged model or of a model on disk; None if the name means something else."""
    name = os.fspath(model)
    if name in PACKAGED_MODELS:
        return Path(str(files("tsdsr") / "weights" / name))
    return Path(name) if os.path.isdir(name) else None


def resolve_model(model: StrPath, revision: str | None = None) -> Path:
    """Return the local folder of a model; one on the hub, "owner/name" or "owner/name@revision", is downloaded first.

    Args:
        model (str | PathLike): name, folder or hub ID.
        revision (str | None): branch, tag or commit of a model on the hub; None is the main branch.

    Raises:
        InvalidInputError: a revision is given for a model that is not on the hub, or two of them.
        ModelNotFoundError, GatedModelError, ModelError, MissingDependencyError: see
            :func:`~tsdsr.pipeline.hub.fetch_model`.
    """
    from tsdsr.pipeline.hub import fetch_model, parse_name

    name = os.fspath(model)
    folder = local_folder(model)
    if folder is not None:
        if revision is not None:
            raise InvalidInputError(f"{name}: only a model on the hub has revisions; leave out {revision!r}")
        return folder
    if name in SPECS:
        hub_id = SPECS[name].hub_id
        way = (
            f"Download {hub_id} and the released LoRA, make a pipeline with 'tsdsr convert',"
            if SPECS[name].released
            else f"Download {hub_id}, train a student with 'tsdsr train student',"
        )
        raise ModelNotFoundError(f"{name!r} is a base model, not a one-step student. {way} and pass its folder")
    on_hub = None if os.path.isabs(name) else parse_name(name)
    if on_hub is None:
        known = ", ".join(PACKAGED_MODELS)
        raise ModelNotFoundError(
            f"{name}: no such model; give {known}, an existing folder, or a hub ID 'owner/name', 'owner/name@revision'"
        )
    if revision is not None:
        if on_hub.revision not in (None, revision):
            raise InvalidInputError(f"{name}: names another revision than {revision!r}; give one of them")
        on_hub = on_hub._replace(revision=revision)
    return fetch_model(on_hub)


def hash_of_model(model: StrPath) -> str:
    """Return the hash of a model's weights and configuration; a model on the hub is downloaded first.

    Raises:
        ModelNotFoundError, GatedModelError: see :func:`resolve_model`.
        ModelNotFoundError: the folder holds no model; it may be large, so it is not read.
        ModelError: its files cannot be read.
    """
    folder = resolve_model(model)
    require_index(folder)
    return hash_model(folder)


def require_index(folder: Path) -> None:
    """Check that a folder holds a pipeline or an exported model.

    Raises:
        ModelNotFoundError: there is no such folder, or it holds no index of a pipeline or of an exported model.
    """
    if not folder.is_dir():
        raise ModelNotFoundError(f"{folder}: no such folder")
    if not is_model(folder):
        raise ModelNotFoundError(
            f"{folder}: contains no {MODEL_INDEX}; make a pipeline folder with 'tsdsr convert' or 'tsdsr train'"
        )


def base_model(folder: Path) -> str | None:
    """Return the name of a model's base model in :data:`tsdsr.models.zoo.SPECS`; None if its index does not name it."""
    for name in (EXPORT_INDEX, MODEL_INDEX):
        try:
            model = json.loads((folder / name).read_text(encoding="utf-8")).get("model", "mini")
        except (OSError, ValueError, AttributeError):
            continue
        return model if isinstance(model, str) else None
    return None


def is_plain_mini(folder: Path) -> bool:
    """Return whether a folder holds a pipeline of `mini` whose network is not folded."""
    try:
        index = json.loads((folder / MODEL_INDEX).read_text(encoding="utf-8"))
        return bool(index.get("model", "mini") == "mini" and index["denoiser"][-1] == "MiniUNet")
    except (OSError, ValueError, KeyError, TypeError, AttributeError, IndexError):
        return False


def has_graph(folder: Path) -> bool:
    """Return whether a pipeline folder of `mini`, folded or not, holds its graph for ONNX Runtime."""
    return (folder / MINI_GRAPH).is_file() and not is_exported(folder) and base_model(folder) == "mini"


def is_model(folder: Path) -> bool:
    """Return whether a folder holds a pipeline or an exported model, rather than, say, images."""
    return is_exported(folder) or (folder / MODEL_INDEX).is_file()


def is_exported(folder: Path) -> bool:
    """Return whether a folder holds a model made by ``tsdsr export``."""
    return (folder / EXPORT_INDEX).is_file()
