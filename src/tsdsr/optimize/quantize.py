"""8-bit quantisation of denoisers with torchao: smaller weights, and faster arithmetic where the hardware supports it.

Only linear layers of attention and feed-forward modules are quantised. They hold nearly all weights and arithmetic of
the large models. Layers that embed latents, time and prompt, output layers, convolutions, norms and the autoencoder
keep their precision.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import torch
from diffusers.models.attention import AttentionModuleMixin, FeedForward
from diffusers.models.attention_processor import Attention
from diffusers.models.transformers.transformer_flux2 import Flux2FeedForward
from torch import nn

from tsdsr.errors import InvalidInputError, MissingDependencyError, ModelError, install_extra
from tsdsr.pipeline.diffusers_pipeline import OneStepSRPipeline, require_diffusers_pipeline

QuantizeMode = Literal["int8", "int8-dynamic", "fp8"]
QUANTIZE_MODES: tuple[QuantizeMode, ...] = ("int8", "int8-dynamic", "fp8")
_QUANTIZED = (Attention, FeedForward, AttentionModuleMixin, Flux2FeedForward)
"""Attention and feed-forward modules of SD3 and SD2, then of FLUX.2."""

_MULTIPLE = 16  # 8-bit kernels require matrix sides that are multiples of this


@dataclass(frozen=True)
class QuantizeReport:
    """Result of a quantisation.

    Attributes:
        layers (int): number of quantised linear layers.
        bytes_before (int): size of their weights before, in bytes.
        bytes_after (int): size of the 8-bit weights in bytes; scales, about 1/400 more at SD3's widths, not included.
    """

    layers: int
    bytes_before: int
    bytes_after: int


def quantize(pipe: OneStepSRPipeline, mode: QuantizeMode) -> QuantizeReport:
    """Quantise a pipeline's denoiser in place, on its current device. Folding it first saves more memory.

    Each row of a weight gets one symmetric scale. A quantised pipeline cannot be saved, folded or trained; quantising
    again takes seconds.

    Args:
        pipe (OneStepSRPipeline): pipeline on its final device, folded or not.
        mode: "int8" stores weights in 8 bits and computes as before; "int8-dynamic" also rounds each token's
            activations to 8 bits and multiplies integers (VNNI, AMX, GPUs); "fp8" does the same in float8_e4m3 (NVIDIA
            Hopper or newer, bfloat16 pipelines).

    Returns:
        QuantizeReport: number of quantised layers and the size of their weights.

    Raises:
        InvalidInputError: the mode is unknown, ``pipe`` is no diffusers pipeline, or the model has no layers to
            quantise (such as `mini`), or is already quantised.
        ModelError: "fp8" on unsupported hardware or in another precision.
        MissingDependencyError: torchao is not installed or too old.
    """
    if mode not in QUANTIZE_MODES:
        raise InvalidInputError(f"unknown quantisation {mode!r}; choose from {', '.join(QUANTIZE_MODES)}")
    require_diffusers_pipeline(pipe, "quantize")
    layers = quantizable_layers(pipe.denoiser)
    if not layers:
        raise InvalidInputError(
            f"nothing to quantise in {type(pipe.denoiser).__name__}: only linear layers of attention and feed-forward "
            "modules are quantised, and it has none"
        )
    if any(type(layer.weight) is not nn.Parameter for layer in layers):
        raise InvalidInputError("this model is already quantised")
    if mode == "fp8":
        _require_fp8(pipe.device, pipe.dtype)
    quantize_, config = _torchao(mode, pipe.device)
    chosen = {id(layer) for layer in layers}
    before = sum(layer.weight.numel() * layer.weight.element_size() for layer in layers)
    quantize_(pipe.denoiser, config, filter_fn=lambda module, _: id(module) in chosen)
    return QuantizeReport(len(layers), before, sum(layer.weight.numel() for layer in layers))


def quantizable_layers(network: nn.Module) -> list[nn.Linear]:
    """List the linear layers of attention and feed-forward modules whose sides are multiples of 16, in order."""
    found: dict[int, nn.Linear] = {}
    for module in network.modules():
        if isinstance(module, _QUANTIZED):
            for layer in module.modules():
                if isinstance(layer, nn.Linear) and not any(side % _MULTIPLE for side in layer.weight.shape):
                    found[id(layer)] = layer
    return list(found.values())


def _require_fp8(device: torch.device, dtype: torch.dtype) -> None:
    """Raise unless the device can multiply float8 matrices with one scale per row."""
    if device.type != "cuda" or torch.cuda.get_device_capability(device) < (9, 0):
        name = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
        raise ModelError(f"fp8 needs an NVIDIA GPU of the Hopper generation or newer, not {name}; int8 runs anywhere")
    if dtype != torch.bfloat16:
        raise ModelError(f"fp8 needs a pipeline in bfloat16, not {dtype}; load it with dtype bf16")


def _torchao(mode: QuantizeMode, device: torch.device) -> tuple[Any, Any]:
    """Return torchao's ``quantize_`` and its config for ``mode``, without changing inductor's global settings."""
    try:
        from torchao.quantization import (
            Float8DynamicActivationFloat8WeightConfig,
            Int8DynamicActivationInt8WeightConfig,
            Int8WeightOnlyConfig,
            PerRow,
            quantize_,
        )
        from torchao.utils import should_reduce_range
    except ImportError as error:
        raise MissingDependencyError(
            f"quantisation needs torchao 0.18 or newer: {install_extra('quantize')}"
        ) from error
    if mode == "int8":
        return quantize_, Int8WeightOnlyConfig(set_inductor_config=False)
    if mode == "int8-dynamic":
        reduce_range = should_reduce_range(device)  # processors without VNNI would overflow
        return quantize_, Int8DynamicActivationInt8WeightConfig(set_inductor_config=False, reduce_range=reduce_range)
    return quantize_, Float8DynamicActivationFloat8WeightConfig(granularity=PerRow(), set_inductor_config=False)
