"""Released LoRA weights: reading, writing and merging into a base model, with peft."""

from __future__ import annotations

import pickle
from collections.abc import Collection, Mapping
from pathlib import Path

import torch
from diffusers.models.modeling_utils import ModelMixin
from peft.tuners.tuners_utils import BaseTunerLayer
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from tsdsr.errors import ModelNotFoundError, WeightsError
from tsdsr.files import StrPath, atomic_path
from tsdsr.models.adapters import LORA_A, LORA_B, attach_lora
from tsdsr.models.network_folders import require_finite

RELEASED_PREFIX = "transformer."
"""Prefix of every key in the released files, including those for the autoencoder."""

RELEASED_PROMPT_FILES = {"prompt_embeds": "prompt_embeds", "pooled_prompt_embeds": "pool_embeds"}
"""Field of :class:`tsdsr.models.conditioning.Conditioning` → stem of the released file that holds it."""


def read_released_lora(path: StrPath) -> dict[str, Tensor]:
    """Read a LoRA file in the released layout.

    Args:
        path (str | PathLike): safetensors file, keys ``transformer.<module>.lora_A.weight`` and ``….lora_B.weight``.

    Returns:
        dict: the tensors with the prefix removed.

    Raises:
        ModelNotFoundError: no such file.
        WeightsError: the file is not safetensors or holds no tensor, its keys have another layout, an A or a B is
            missing, the shapes of a pair do not fit, or a value is not finite.
    """
    path = Path(path)
    if not path.is_file():
        raise ModelNotFoundError(f"{path}: no such LoRA file")
    try:
        tensors = load_file(path)
    except (SafetensorError, OSError) as error:
        raise WeightsError(f"{path}: not a readable safetensors file ({error})") from error
    state = {key.removeprefix(RELEASED_PREFIX): value for key, value in tensors.items()}
    unknown = sorted(k for k in state if not k.endswith((LORA_A, LORA_B)))
    if unknown:
        raise WeightsError(f"{path}: keys that are neither lora_A nor lora_B weights, e.g. {unknown[0]!r}")
    modules = {key.removesuffix(LORA_A).removesuffix(LORA_B) for key in state}
    unpaired = sorted(m for m in modules if m + LORA_A not in state or m + LORA_B not in state)
    if unpaired:
        raise WeightsError(f"{path}: {unpaired[0]!r} has only one of lora_A and lora_B")
    _check_values(state, modules, path)
    return state


def _check_values(state: Mapping[str, Tensor], modules: Collection[str], path: Path) -> None:
    """Raise WeightsError if there are no tensors, or if shapes or values are not those of LoRA."""
    if not modules:
        raise WeightsError(f"{path}: contains no LoRA tensors; download it again")
    for name in sorted(modules):
        a, b = state[name + LORA_A], state[name + LORA_B]
        if not (a.is_floating_point() and b.is_floating_point()):
            raise WeightsError(f"{path}: {name!r} is stored as {a.dtype} and {b.dtype}, not as floating point")
        if a.ndim not in (2, 4) or b.ndim != a.ndim or not a.shape[0] or b.shape[1] != a.shape[0]:
            shapes = f"{tuple(a.shape)} and {tuple(b.shape)}"
            raise WeightsError(f"{path}: lora_A and lora_B of {name!r} have shapes {shapes}, which have no common rank")
    require_finite(state, str(path))


def write_released_lora(path: Path, state: Mapping[str, Tensor]) -> None:
    """Write a LoRA file in the released layout, atomically.

    Args:
        path (Path): safetensors file.
        state (mapping): ``<module>.lora_A.weight`` and ``<module>.lora_B.weight``.
    """
    with atomic_path(path) as temporary:
        save_file({RELEASED_PREFIX + key: value.contiguous() for key, value in state.items()}, temporary)


def merge_lora(model: ModelMixin, state: Mapping[str, Tensor], scale: float = 1.0) -> None:
    """Add ``scale * B A`` to the weights of every module in ``state``, in place.

    The released weights were trained with alpha equal to the rank, so scale 1 gives the trained behaviour.

    Args:
        model (ModelMixin): base model; the merge is computed in its dtype.
        state (mapping): ``<module>.lora_A.weight`` and ``<module>.lora_B.weight``, see :func:`read_released_lora`.
        scale (float): strength; 0 leaves the base unchanged.

    Raises:
        WeightsError: a module does not exist in the model, cannot carry LoRA, has another shape, or becomes not finite.
    """
    attach_lora(model, state, "default")
    for name, module in list(model.named_modules()):
        if isinstance(module, BaseTunerLayer):
            module.set_scale("default", scale)
            try:
                module.merge(safe_merge=True)
            except ValueError as error:
                raise WeightsError(f"merging the LoRA makes {name!r} not finite; is the strength right?") from error
            _replace(model, name, module.get_base_layer())
    del model.peft_config


def _replace(model: nn.Module, name: str, module: nn.Module) -> None:
    parent, _, leaf = name.rpartition(".")
    setattr(model.get_submodule(parent), leaf, module)


def read_embeddings(path: StrPath) -> Tensor:
    """Read prompt embeddings from a safetensors file, or from a pickle opened with ``weights_only``.

    Args:
        path (str | PathLike): file that holds one tensor.

    Raises:
        ModelNotFoundError: no such file.
        WeightsError: the file cannot be read or does not hold a tensor.
    """
    path = Path(path)
    if not path.is_file():
        raise ModelNotFoundError(f"{path}: no such file; the released prompt embeddings belong there")
    try:
        if path.suffix == ".safetensors":
            tensors = load_file(path)
            content: object = next(iter(tensors.values())) if len(tensors) == 1 else tensors
        else:
            content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises pickle, runtime and zip errors for files it refuses
        # Torch's own text about pickles advises to load them without the check, which would run their code.
        reason = "" if isinstance(error, pickle.UnpicklingError) else f" ({' '.join(str(error).split())[:200]})"
        raise WeightsError(f"{path}: not a readable file with one tensor and nothing else{reason}") from error
    if not isinstance(content, Tensor):
        raise WeightsError(f"{path}: expected one tensor, found {type(content).__name__}")
    return content.detach()
