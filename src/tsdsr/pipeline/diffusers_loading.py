"""Load a diffusers pipeline by name, folder or hub ID, with errors that name the remedy."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from diffusers.models.modeling_utils import ModelMixin

from tsdsr.devices import choose_device, choose_dtype
from tsdsr.errors import ModelError
from tsdsr.files import StrPath
from tsdsr.models.fixed_prompt import FixedPrompt
from tsdsr.models.folded import FOLDED_CLASSES
from tsdsr.models.network_folders import load_part
from tsdsr.models.parts_check import check_parts
from tsdsr.models.zoo import SPECS, ModelSpec
from tsdsr.pipeline.diffusers_pipeline import OneStepSRPipeline
from tsdsr.pipeline.model_files import MODEL_INDEX, PARTS, is_exported, require_index, resolve_model


def load_diffusers_pipeline(
    model: StrPath = "mini",
    device: str | torch.device = "auto",
    dtype: str | torch.dtype = "auto",
) -> OneStepSRPipeline:
    """Load a pipeline of any base model with diffusers and move it to a device.

    Folding, quantising, compiling and exporting need it. For restoring, use :func:`tsdsr.load_pipeline`, which chooses
    the fastest engine.

    Args:
        model: "mini" (comes with the package), a folder made by ``save_pretrained`` or ``tsdsr convert``, or a hub ID.
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
        ModelNotFoundError, ModelError, WeightsError, OutOfMemoryError: see :func:`load_diffusers_pipeline`.
    """
    folder = Path(folder)
    spec, classes = check_pipeline_folder(folder)
    parts = {name: load_part(model_class, folder / name, dtype) for name, model_class in classes.items()}
    check_parts(spec, parts["denoiser"], parts["vae"], parts["prompt"], str(folder))
    pipe = OneStepSRPipeline(**parts, model=spec.name)
    pipe.folder = folder
    return pipe


def is_as_stored(pipe: OneStepSRPipeline, folder: Path) -> bool:
    """Return whether the networks of a pipeline are still those of the folder it was loaded from, but for their dtype.

    They are not after folding, quantising, compiling, or training.

    Raises:
        ModelNotFoundError, ModelError, WeightsError, OutOfMemoryError: the folder cannot be read any more.
    """
    _, classes = check_pipeline_folder(folder)
    for name, model_class in classes.items():
        own = getattr(pipe, name)
        if type(own) is not model_class:
            return False
        kept, held = load_part(model_class, folder / name, pipe.dtype).state_dict(), own.state_dict()
        if kept.keys() != held.keys() or not all(torch.equal(kept[key], held[key].cpu()) for key in kept):
            return False
    return True


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
        raise ModelError(
            f"{folder}: is an exported model, which runs as it is, with load_pipeline or 'tsdsr upscale'; to fold, "
            f"quantise, compile or export, give the pipeline folder that it was made from"
        )
    require_index(folder)
    index = folder / MODEL_INDEX
    try:
        values = json.loads(index.read_text(encoding="utf-8"))
        class_name, model = values["_class_name"], values.get("model", "mini")
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ModelError(f"{index}: is not a valid pipeline index ({error})") from error
    if class_name != OneStepSRPipeline.__name__:
        raise ModelError(
            f"{folder}: contains a {class_name}, a multi-step base model; make a one-step pipeline from it with "
            f"'tsdsr train', or with 'tsdsr convert' and a LoRA"
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
