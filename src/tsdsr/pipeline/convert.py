"""Base model + released LoRA + prompt embeddings → one self-contained pipeline folder."""

from __future__ import annotations

import os
from pathlib import Path

import torch

from tsdsr.errors import InvalidInputError, ModelNotFoundError, WeightsError
from tsdsr.files import atomic_folder
from tsdsr.models.conditioning import Conditioning, FixedPrompt
from tsdsr.models.lora import RELEASED_PROMPT_FILES, merge_lora, read_embeddings, read_released_lora
from tsdsr.models.zoo import ModelSpec, get_spec, load_part
from tsdsr.pipeline.loading import fetch_from_hub
from tsdsr.pipeline.pipeline import OneStepSRPipeline


def convert_released(
    base: str | os.PathLike[str],
    lora: Path,
    embeddings: Path,
    model: str = "sd3",
    scale: float = 1.0,
) -> OneStepSRPipeline:
    """Build a pipeline from the released layout, LoRA merged in float32, text encoders left out.

    Args:
        base: diffusers folder or hub id of the base model.
        lora (Path): folder with ``transformer.safetensors`` (``unet.safetensors`` for SD2) and ``vae.safetensors``.
        embeddings (Path): folder with ``prompt_embeds.pt`` and, for SD3, ``pool_embeds.pt`` (or ``.safetensors``).
        model (str): which base model it is, a key of :data:`tsdsr.models.zoo.SPECS`.
        scale (float): strength of both LoRAs.

    Returns:
        OneStepSRPipeline: in float32 on the CPU.

    Raises:
        ModelNotFoundError: a file or folder is missing.
        GatedModelError: the base model needs a login.
        WeightsError: keys or shapes do not fit.
    """
    spec = get_spec(model)
    if not spec.lora_targets:
        raise InvalidInputError(f"{model!r} has no released LoRA to convert")
    prompt = read_prompt(embeddings, spec)  # the small files first: fail before the large ones are read
    denoiser_lora = read_released_lora(lora / f"{spec.denoiser_subfolder}.safetensors")
    vae_lora = read_released_lora(lora / "vae.safetensors")
    folder = Path(base)
    if not folder.is_dir():  # the text encoders, most of the download, are not needed
        folder = fetch_from_hub(os.fspath(base), [f"{spec.denoiser_subfolder}/*", "vae/*"])
    denoiser = load_part(spec.denoiser_class, folder / spec.denoiser_subfolder)
    merge_lora(denoiser, denoiser_lora, scale)
    vae = load_part(spec.vae_class, folder / "vae")
    merge_lora(vae, vae_lora, scale)
    return OneStepSRPipeline(denoiser.eval(), vae.eval(), prompt, model=model)


def read_prompt(folder: Path, spec: ModelSpec) -> FixedPrompt:
    """Read the embeddings of the student's fixed prompt.

    Raises:
        ModelNotFoundError: a file is missing.
        WeightsError: a tensor has the wrong number of axes.
    """
    tensors = {}
    for field, shape in spec.prompt_shapes.items():
        stem = folder / RELEASED_PROMPT_FILES[field]
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


def save_pipeline(pipe: OneStepSRPipeline, output: Path, dtype: torch.dtype = torch.float16) -> None:
    """Store a pipeline in the given precision: written under a temporary name, renamed when complete.

    Raises:
        InvalidInputError: ``output`` exists.
    """
    if output.exists():
        raise InvalidInputError(f"{output}: exists already; choose another name or remove it")
    with atomic_folder(output) as temporary:
        for component in pipe.components.values():
            torch.nn.Module.to(component, dtype=dtype)
        pipe.save_pretrained(temporary)
