"""Eight-bit denoisers through torchao: smaller weights, and faster arithmetic where the hardware has it.

What is quantised are the linear layers of attention and feed-forward modules: nearly all weights and arithmetic of the
large models. What maps latents, time and prompt into the network and the result out of it stays, and so do
convolutions, norms and the autoencoder.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import torch
from diffusers.models.attention import FeedForward
from diffusers.models.attention_processor import Attention
from torch import nn

from tsdsr.errors import InvalidInputError, MissingDependencyError, ModelError
from tsdsr.pipeline.pipeline import OneStepSRPipeline

QuantizeMode = Literal["int8", "int8-dynamic", "fp8"]
QUANTIZE_MODES: tuple[QuantizeMode, ...] = ("int8", "int8-dynamic", "fp8")
_MULTIPLE = 16  # sides of a matrix that 8-bit kernels accept


@dataclass(frozen=True)
class QuantizeReport:
    """What quantising changed.

    Attributes:
        layers (int): linear layers quantised.
        bytes_before (int): size of their weights.
        bytes_after (int): about what is left of it; scales take a four-hundredth more at SD3's widths.
    """

    layers: int
    bytes_before: int
    bytes_after: int


def quantize(pipe: OneStepSRPipeline, mode: QuantizeMode) -> QuantizeReport:
    """Quantise a pipeline's denoiser in place, on the device it is on. Folded or not; folding first saves more.

    Weights get one symmetric scale a row. A quantised pipeline runs, and cannot be saved, folded or trained: quantising
    anew takes seconds.

    Args:
        pipe (OneStepSRPipeline): the pipeline, placed on its device.
        mode: "int8" stores weights in 8 bits and computes as before; "int8-dynamic" also rounds each token's
            activations to 8 bits and multiplies integers (VNNI, AMX, GPUs); "fp8" does the same in float8_e4m3 (NVIDIA
            Hopper or newer, bfloat16 pipelines).

    Raises:
        InvalidInputError: unknown mode, or a model without layers to quantise, such as `mini`, or quantised already.
        ModelError: "fp8" on other hardware or in another precision.
        MissingDependencyError: torchao is not installed, or too old.
    """
    if mode not in QUANTIZE_MODES:
        raise InvalidInputError(f"unknown quantisation {mode!r}; choose from {', '.join(QUANTIZE_MODES)}")
    if not isinstance(pipe.denoiser, nn.Module):
        raise InvalidInputError("an exported model has weights of its own; quantise a PyTorch one")
    layers = quantizable_layers(pipe.denoiser)
    if not layers:
        raise InvalidInputError(
            f"nothing to quantise in {type(pipe.denoiser).__name__}: only linear layers of attention and feed-forward "
            "modules are, and it has none"
        )
    if any(type(layer.weight) is not nn.Parameter for layer in layers):
        raise InvalidInputError("this model is quantised already")
    if mode == "fp8":
        _require_fp8(pipe.device, pipe.dtype)
    quantize_, config = _torchao(mode, pipe.device)
    chosen = {id(layer) for layer in layers}
    before = sum(layer.weight.numel() * layer.weight.element_size() for layer in layers)
    quantize_(pipe.denoiser, config, filter_fn=lambda module, _: id(module) in chosen)
    return QuantizeReport(len(layers), before, sum(layer.weight.numel() for layer in layers))


def quantizable_layers(network: nn.Module) -> list[nn.Linear]:
    """The linear layers of attention and feed-forward modules whose sides are multiples of 16, in order."""
    found: dict[int, nn.Linear] = {}
    for module in network.modules():
        if isinstance(module, Attention | FeedForward):
            for layer in module.modules():
                if isinstance(layer, nn.Linear) and not any(side % _MULTIPLE for side in layer.weight.shape):
                    found[id(layer)] = layer
    return list(found.values())


def _require_fp8(device: torch.device, dtype: torch.dtype) -> None:
    """Raise unless matrices in float8 with a scale a row can be multiplied here."""
    if device.type != "cuda" or torch.cuda.get_device_capability(device) < (9, 0):
        name = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
        raise ModelError(f"fp8 needs an NVIDIA GPU of the Hopper generation or newer, not {name}; int8 runs anywhere")
    if dtype != torch.bfloat16:
        raise ModelError(f"fp8 needs a pipeline in bfloat16, not {dtype}; load it with dtype bf16")


def _torchao(mode: QuantizeMode, device: torch.device) -> tuple[Any, Any]:
    """torchao's entry point and its configuration for ``mode``, with inductor's global settings left alone."""
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
            "quantisation needs torchao 0.18 or newer: install it with pip install 'tsdsr[quantize]'"
        ) from error
    if mode == "int8":
        return quantize_, Int8WeightOnlyConfig(set_inductor_config=False)
    if mode == "int8-dynamic":
        reduce_range = should_reduce_range(device)  # processors without VNNI would overflow
        return quantize_, Int8DynamicActivationInt8WeightConfig(set_inductor_config=False, reduce_range=reduce_range)
    return quantize_, Float8DynamicActivationFloat8WeightConfig(granularity=PerRow(), set_inductor_config=False)
