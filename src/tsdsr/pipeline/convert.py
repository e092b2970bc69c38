"""Combine base model, released LoRA and prompt embeddings into one self-contained pipeline folder."""

from __future__ import annotations

import copy
import os
from pathlib import Path
from typing import Any

import torch
from torch import nn

from tsdsr.errors import InvalidInputError, ModelNotFoundError, WeightsError
from tsdsr.files import StrPath, atomic_folder, require_new
from tsdsr.models.conditioning import Conditioning
from tsdsr.models.fixed_prompt import FixedPrompt
from tsdsr.models.lora import RELEASED_PROMPT_FILES, merge_lora, read_embeddings, read_released_lora
from tsdsr.models.network_folders import full_config, load_part, require_finite
from tsdsr.models.parts_check import check_parts, check_prompt
from tsdsr.models.zoo import ModelSpec, get_spec
from tsdsr.pipeline.diffusers_pipeline import OneStepSRPipeline, require_diffusers_pipeline
from tsdsr.pipeline.hub import fetch_files, parse_name


def convert_released(
    base: StrPath,
    lora: StrPath,
    embeddings: StrPath,
    model: str = "sd3",
    scale: float = 1.0,
) -> OneStepSRPipeline:
    """Build a pipeline from the released layout, with LoRA merged in float32 and without text encoders.

    Args:
        base: diffusers folder or hub ID of the base model.
        lora: folder with ``transformer.safetensors`` (``unet.safetensors`` for SD2) and ``vae.safetensors``.
        embeddings: folder with ``prompt_embeds.pt`` and, for SD3, ``pool_embeds.pt`` (or ``.safetensors``).
        model (str): the base model, a key of :data:`tsdsr.models.zoo.SPECS`.
        scale (float): strength of both LoRAs.

    Returns:
        OneStepSRPipeline: in float32 on the CPU.

    Raises:
        ModelNotFoundError: a file or folder is missing.
        GatedModelError: the base model needs a login.
        WeightsError: keys or shapes do not match, or a value is not finite.
    """
    spec, lora, embeddings = get_spec(model), Path(lora), Path(embeddings)
    if not spec.lora_targets:
        raise InvalidInputError(f"{model!r} has no released LoRA to convert")
    folder = Path(base)
    if folder.is_dir():  # first, because of another base model than `model` all files have other names
        full_config(spec.denoiser_class, folder / spec.denoiser_subfolder)
    prompt = read_prompt(embeddings, spec)  # small files first, to fail before the large ones are read
    denoiser_lora = read_released_lora(lora / f"{spec.denoiser_subfolder}.safetensors")
    vae_lora = read_released_lora(lora / "vae.safetensors")
    if not folder.is_dir():  # the text encoders, most of the download, are not needed
        name = parse_name(os.fspath(base))
        if name is None:
            raise ModelNotFoundError(f"{base}: neither a folder nor a hub ID 'owner/name'")
        parts = (spec.denoiser_subfolder, "vae")
        folder = fetch_files(name, tuple(f"{part}/*.{suffix}" for part in parts for suffix in ("json", "safetensors")))
    part = folder / spec.denoiser_subfolder
    check_prompt(spec, full_config(spec.denoiser_class, part), prompt, str(embeddings))
    denoiser = load_part(spec.denoiser_class, part)
    merge_lora(denoiser, denoiser_lora, scale)
    vae = load_part(spec.vae_class, folder / "vae")
    merge_lora(vae, vae_lora, scale)
    check_parts(spec, denoiser, vae, prompt, str(folder))
    return OneStepSRPipeline(denoiser.eval(), vae.eval(), prompt, model=model)


def read_prompt(folder: StrPath, spec: ModelSpec) -> FixedPrompt:
    """Read the embeddings of the student's fixed prompt.

    Raises:
        ModelNotFoundError: a file is missing.
        WeightsError: a tensor has the wrong number of axes.
    """
    tensors = {}
    for field, shape in spec.prompt_shapes.items():
        stem = Path(folder) / RELEASED_PROMPT_FILES[field]
        path = next((p for p in (stem.with_suffix(".safetensors"), stem.with_suffix(".pt")) if p.is_file()), None)
        if path is None:
            raise ModelNotFoundError(f"{stem}.pt: no such file; the released prompt embeddings belong there")
        tensor = read_embeddings(path)
        if tensor.ndim == len(shape):
            tensor = tensor[None]
        if tensor.ndim != len(shape) + 1 or len(tensor) != 1:
            raise WeightsError(f"{path}: expected one prompt of {len(shape)} axes, found shape {tuple(tensor.shape)}")
        tensors[field] = tensor.float()
    prompt: FixedPrompt = FixedPrompt.from_conditioning(Conditioning(**tensors))
    return prompt


def save_pipeline(pipe: OneStepSRPipeline, output: StrPath, dtype: torch.dtype | None = None) -> None:
    """Store a pipeline in the given precision. The pipeline itself is not changed.

    The folder is written under a temporary name and renamed when complete.

    Args:
        pipe (OneStepSRPipeline): on any device, in any precision.
        output (str | PathLike): the folder to create.
        dtype (torch.dtype | None): precision of the stored weights; None is the base model's, float16, or bfloat16 for
            FLUX.2.

    Raises:
        InvalidInputError: ``pipe`` is no diffusers pipeline, ``output`` exists, or the model has no weights to save
            because it is quantised.
        WeightsError: a weight is not finite in that precision.
        FileWriteError: the folder cannot be written.
    """
    require_diffusers_pipeline(pipe, "save_pipeline")
    dtype = pipe.spec.stored_dtype if dtype is None else dtype
    if dtype not in (torch.float32, torch.float16, torch.bfloat16):
        raise InvalidInputError(f"weights are stored in float32, float16 or bfloat16, not in {dtype!r}")
    target = require_new(output)
    if any(type(parameter) is not nn.Parameter for parameter in pipe.denoiser.parameters()):
        raise InvalidInputError("a quantised model cannot be saved: save it first, and quantise it when it is loaded")
    denoiser, vae, prompt = (copy_in(part, dtype) for part in (pipe.denoiser, pipe.vae, pipe.prompt))
    for name, part in (("denoiser", denoiser), ("vae", vae), ("prompt", prompt)):
        require_finite(part.state_dict(), f"{name} in {str(dtype).removeprefix('torch.')}")
    with atomic_folder(target) as temporary:
        OneStepSRPipeline(denoiser, vae, prompt, model=pipe.spec.name).save_pretrained(temporary)


def copy_in(module: Any, dtype: torch.dtype) -> Any:
    """Copy a module for inference with floating-point tensors in ``dtype``. The module itself is not changed.

    Tensors that already have this dtype are shared with the module.

    Args:
        module (nn.Module): the module to copy.
        dtype (torch.dtype): dtype of the copy.
    """
    kept: dict[int, object] = {}
    for tensor in (*module.parameters(), *module.buffers()):
        values = tensor.detach().to(dtype) if tensor.is_floating_point() else tensor.detach()
        kept[id(tensor)] = nn.Parameter(values, requires_grad=False) if isinstance(tensor, nn.Parameter) else values
    return copy.deepcopy(module, kept)
