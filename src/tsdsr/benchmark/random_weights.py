"""Full-size pipelines with random weights: the same cost as trained ones, without a download."""

from __future__ import annotations

import torch
from torch import nn

from tsdsr.errors import InvalidInputError
from tsdsr.models.adapters import new_lora
from tsdsr.models.conditioning import default_conditioning
from tsdsr.models.fixed_prompt import FixedPrompt
from tsdsr.models.zoo import ModelSpec, get_spec
from tsdsr.pipeline.diffusers_loading import make_ready
from tsdsr.pipeline.diffusers_pipeline import OneStepSRPipeline

_NOISE = 1 << 20
RELEASED_RANK = 64
"""Rank of the released LoRAs of the denoiser and of the autoencoder's encoder."""


def random_pipeline(model: str, device: torch.device, dtype: torch.dtype) -> OneStepSRPipeline:
    """Build a base model's architecture at full size with random weights, directly in the given precision.

    Args:
        model (str): key of :data:`tsdsr.models.zoo.SPECS`.
        device (torch.device): device of the weights.
        dtype (torch.dtype): precision of all weights; no copy in another precision is made.

    Raises:
        ModelNotFoundError: unknown base model.
    """
    return make_ready(_random(get_spec(model), device, dtype), device)


def released_pipeline(model: str, device: torch.device) -> OneStepSRPipeline:
    """Build the same as run by the released code: unmerged LoRA of rank 64, fp32 on a CPU, fp16 elsewhere, NCHW.

    Raises:
        ModelNotFoundError: unknown base model.
        InvalidInputError: there is no released model for it.
    """
    spec = get_spec(model)
    if not spec.lora_targets:
        raise InvalidInputError(f"{model!r} has no released LoRA; 'released:' exists for sd3 and its like")
    dtype = torch.float32 if device.type == "cpu" else torch.float16
    pipe = _random(spec, device, dtype)
    for network, targets in ((pipe.denoiser, spec.lora_targets), (pipe.vae, spec.vae_lora_targets)):
        new_lora(network, targets, RELEASED_RANK, "default", torch.Generator().manual_seed(1))
        network.to(dtype)  # as in the released code: adapters in the precision of the base
    pipe.set_progress_bar_config(disable=True)
    return pipe


def _random(spec: ModelSpec, device: torch.device, dtype: torch.dtype) -> OneStepSRPipeline:
    default = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        with torch.device("meta"):
            parts = [spec.make_denoiser(), spec.make_autoencoder()]
    finally:
        torch.set_default_dtype(default)
    for part in parts:
        fill_with_noise(part.to_empty(device=device))
    prompt = FixedPrompt.from_conditioning(default_conditioning(spec).to(device, dtype))
    return OneStepSRPipeline(parts[0].eval(), parts[1].eval(), prompt, model=spec.name)


@torch.no_grad()
def fill_with_noise(network: nn.Module) -> None:
    """Fill every weight and buffer with repeated Gaussian noise that keeps activations near unit variance.

    The noise is repeated because drawing two billion numbers would take longer than the timed run.

    Args:
        network (nn.Module): on its final device.
    """
    noise = torch.randn(_NOISE, generator=torch.Generator().manual_seed(0))
    for name, tensor in (*network.named_parameters(), *network.named_buffers()):
        if tensor.ndim < 2:
            tensor.fill_(0.0 if name.endswith(("bias", "running_mean")) else 1.0)
            continue
        scaled = (noise / tensor[0].numel() ** 0.5).to(tensor.device, tensor.dtype)
        for chunk in torch.split(tensor.view(-1), _NOISE):
            chunk.copy_(scaled[: len(chunk)])
