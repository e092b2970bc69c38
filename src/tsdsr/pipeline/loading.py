"""Load a pipeline by name, folder or hub id, with errors that name the remedy."""

from __future__ import annotations

import json
import os
from pathlib import Path

import torch
from diffusers.models.modeling_utils import ModelMixin
from huggingface_hub import snapshot_download
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
)

from tsdsr.devices import choose_device, choose_dtype
from tsdsr.errors import GatedModelError, ModelError, ModelNotFoundError
from tsdsr.files import StrPath
from tsdsr.models.fixed_prompt import FixedPrompt
from tsdsr.models.folded import FOLDED_CLASSES
from tsdsr.models.network_folders import load_part
from tsdsr.models.parts_check import check_parts
from tsdsr.models.zoo import SPECS, ModelSpec
from tsdsr.pipeline.model_files import MODEL_INDEX, PACKAGED_MODELS, is_exported, local_folder, require_index
from tsdsr.pipeline.pipeline import OneStepSRPipeline

PARTS = ("denoiser", "vae", "prompt")
"""Parts of a pipeline: subfolders of its folder."""


def load_pipeline(
    model: StrPath = "mini",
    device: str | torch.device = "auto",
    dtype: str | torch.dtype = "auto",
) -> OneStepSRPipeline:
    """Load a pipeline by name, folder or hub id and move it to a device.

    Args:
        model: "mini" (comes with the package), a folder made by ``save_pretrained`` or ``tsdsr convert``, or a hub id.
        device: "auto" selects CUDA, then Apple's MPS, then the CPU.
        dtype: "auto", "fp32", "fp16", "bf16" or a torch dtype; see :func:`choose_dtype`.

    Raises:
        ModelNotFoundError: the model does not exist.
        GatedModelError: the hub requires an accepted licence or a login.
        WeightsError: configuration and weights do not match, or a weight is not finite.
        OutOfMemoryError: the weights do not fit into memory.
    """
    device = choose_device(device)
    torch_dtype = choose_dtype(dtype, device)
    return make_ready(read_pipeline(resolve_model(model), torch_dtype), device)


def make_ready(pipe: OneStepSRPipeline, device: torch.device) -> OneStepSRPipeline:
    """Move a pipeline to a device. On a CPU, convert its convolutions to the memory layout of oneDNN.

    With channels first, oneDNN would reorder the feature maps around every convolution of the autoencoder.
    """
    if device.type == "cpu":
        for network in (pipe.denoiser, pipe.vae):
            network.to(memory_format=torch.channels_last)
    ready = pipe.to(device)
    ready.set_progress_bar_config(disable=True)
    return ready


def read_pipeline(folder: StrPath, dtype: torch.dtype) -> OneStepSRPipeline:
    """Load the pipeline from a local folder, on the CPU. Configuration and weights are checked first.

    Raises:
        ModelNotFoundError, ModelError, WeightsError, OutOfMemoryError: see :func:`load_pipeline`.
    """
    folder = Path(folder)
    spec, classes = check_pipeline_folder(folder)
    parts = {name: load_part(model_class, folder / name, dtype) for name, model_class in classes.items()}
    check_parts(spec, parts["denoiser"], parts["vae"], parts["prompt"], str(folder))
    return OneStepSRPipeline(**parts, model=spec.name)


def resolve_model(model: StrPath) -> Path:
    """Return the local folder of a model; a hub id is downloaded first.

    Raises:
        ModelNotFoundError, GatedModelError: see :func:`load_pipeline`.
    """
    name = os.fspath(model)
    folder = local_folder(model)
    if folder is not None:
        return folder
    if name in SPECS:
        raise ModelNotFoundError(
            f"{name!r} is a base model, not a one-step student. Download {SPECS[name].hub_id} and the released LoRA, "
            f"make a pipeline with 'tsdsr convert', and pass its folder"
        )
    if os.path.isabs(name) or name.startswith((".", "~")) or name.count("/") != 1:
        known = ", ".join(PACKAGED_MODELS)
        raise ModelNotFoundError(f"{name}: no such model; give {known}, an existing folder, or a hub id 'owner/name'")
    return fetch_from_hub(name)


def fetch_from_hub(repo_id: str, patterns: list[str] | None = None) -> Path:
    """Download a hub repository, or only its files that match ``patterns``, unless cached.

    Raises:
        ModelNotFoundError: unknown repository, or no connection and nothing cached.
        GatedModelError: access has not been granted.
    """
    try:
        return Path(snapshot_download(repo_id, allow_patterns=patterns))
    except GatedRepoError as error:
        raise GatedModelError(
            f"{repo_id} is gated: accept its licence on its hub page, run 'hf auth login', and try again"
        ) from error
    except (RepositoryNotFoundError, HFValidationError) as error:
        raise ModelNotFoundError(
            f"{repo_id}: no such folder here and no such model on the hub (a private one needs 'hf auth login')"
        ) from error
    except (LocalEntryNotFoundError, HfHubHTTPError, OSError) as error:
        raise ModelNotFoundError(
            f"{repo_id}: no such folder here, and the hub cannot be reached; check the name or the connection"
        ) from error


def check_pipeline_folder(folder: StrPath) -> tuple[ModelSpec, dict[str, type[ModelMixin]]]:
    """Check that ``folder`` contains a one-step pipeline. No weights are read.

    Returns:
        tuple: the base model, and the class of each part.

    Raises:
        ModelNotFoundError: no ``model_index.json``, or an unknown base model.
        ModelError: the index is broken or belongs to another pipeline, or the model is an exported one.
    """
    folder = Path(folder)
    if is_exported(folder):
        raise ModelError(f"{folder}: is an exported model; use tsdsr.load_exported or 'tsdsr upscale'")
    require_index(folder)
    index = folder / MODEL_INDEX
    try:
        values = json.loads(index.read_text(encoding="utf-8"))
        class_name, model = values["_class_name"], values.get("model", "mini")
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ModelError(f"{index}: is not a valid pipeline index ({error})") from error
    if class_name != OneStepSRPipeline.__name__:
        raise ModelError(
            f"{folder}: holds a {class_name}, a multi-step base model; make a one-step pipeline from it and the "
            f"released LoRA with 'tsdsr convert'"
        )
    if not isinstance(model, str) or model not in SPECS:
        raise ModelError(f"{index}: names the base model {model!r}; known: {', '.join(SPECS)}")
    return SPECS[model], {part: _part_class(SPECS[model], part, values.get(part), index) for part in PARTS}


def _part_class(spec: ModelSpec, part: str, entry: object, index: Path) -> type[ModelMixin]:
    """Return the class that an index entry, [module, class], names."""
    allowed: dict[str, tuple[type[ModelMixin], ...]] = {
        "denoiser": (spec.denoiser_class, FOLDED_CLASSES[spec.denoiser_class]),
        "vae": (spec.vae_class,),
        "prompt": (FixedPrompt,),
    }
    name = entry[-1] if isinstance(entry, list) and entry else None
    for known in allowed[part]:
        if known.__name__ == name:
            return known
    names = " or ".join(known.__name__ for known in allowed[part])
    raise ModelError(f"{index}: {part} is {name!r}, but the one of {spec.name} is {names}")
