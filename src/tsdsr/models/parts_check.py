"""Check that denoiser, autoencoder and prompt of a pipeline fit together."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from tsdsr.errors import InvalidInputError, WeightsError
from tsdsr.models.fixed_prompt import FixedPrompt
from tsdsr.models.folded_parts import FoldedNetwork
from tsdsr.models.latents import patch_size
from tsdsr.models.network_folders import require_finite
from tsdsr.models.zoo import ModelSpec

_WIDTHS = {
    "SD3Transformer2DModel": {
        "prompt_embeds": "joint_attention_dim",
        "pooled_prompt_embeds": "pooled_projection_dim",
    },
    "Flux2Transformer2DModel": {"prompt_embeds": "joint_attention_dim"},
    "UNet2DConditionModel": {"prompt_embeds": "cross_attention_dim"},
}
"""Network class → field of its prompt → setting that holds the field's width."""


def network_config(denoiser: nn.Module) -> Mapping[str, Any]:
    """Return the configuration of a denoiser; for a folded one, of the network it was folded from."""
    config: Any = denoiser.config
    network: Mapping[str, Any] = config["network"] if isinstance(denoiser, FoldedNetwork) else config
    return network


def check_parts(spec: ModelSpec, denoiser: nn.Module, vae: nn.Module, prompt: FixedPrompt, where: str) -> None:
    """Check that the parts of a pipeline fit together and to the base model.

    Args:
        spec (ModelSpec): the base model.
        denoiser, vae, prompt: the parts.
        where (str): name of the folder, for messages.

    Raises:
        WeightsError: they do not.
    """
    check_configurations(spec, network_config(denoiser), vae, prompt, where)
    if isinstance(denoiser, FoldedNetwork):
        try:
            denoiser.require(torch.tensor([float(spec.timestep)]), prompt.conditioning())
        except (InvalidInputError, TypeError, ValueError, AttributeError, RuntimeError) as error:
            raise WeightsError(f"{where}: the folded denoiser does not fit the prompt ({error})") from error


def check_configurations(
    spec: ModelSpec, config: Mapping[str, Any], vae: nn.Module, prompt: FixedPrompt, where: str
) -> None:
    """Check that a denoiser of the given configuration fits to autoencoder, prompt and base model.

    Args:
        spec (ModelSpec): the base model.
        config (mapping): configuration of the denoiser, before folding.
        vae, prompt: the other parts; an autoencoder on the meta device will do.
        where (str): name of the folder, for messages.

    Raises:
        WeightsError: it does not.
    """
    _check_autoencoder(spec, config, vae, where)
    check_prompt(spec, config, prompt, where)


def check_prompt(spec: ModelSpec, config: Mapping[str, Any], prompt: FixedPrompt, where: str) -> None:
    """Check the prompt of a denoiser with the given configuration.

    Raises:
        WeightsError: fields, shapes or values are wrong.
    """
    tensors = prompt.conditioning().tensors()
    if tensors.keys() != spec.prompt_shapes.keys():
        raise WeightsError(
            f"{where}: the prompt has {', '.join(tensors)}, but {spec.name} needs {', '.join(spec.prompt_shapes)}"
        )
    require_finite(tensors, where)
    widths = _WIDTHS.get(spec.denoiser_class.__name__, {})
    for field, tensor in tensors.items():
        if tensor.ndim != len(spec.prompt_shapes[field]) + 1 or len(tensor) != 1 or not tensor.numel():
            raise WeightsError(f"{where}: {field} has shape {tuple(tensor.shape)}, which is not a single prompt")
        if field == "labels":
            if not 0 <= int(tensor) < int(config["num_prompts"]):
                raise WeightsError(f"{where}: labels is {int(tensor)}, but the denoiser has {config['num_prompts']}")
        elif tensor.shape[-1] != (width := config.get(widths[field])):
            raise WeightsError(f"{where}: {field} is {tensor.shape[-1]} wide, but the denoiser takes {width}")


def _check_autoencoder(spec: ModelSpec, config: Mapping[str, Any], vae: Any, where: str) -> None:
    if "block_out_channels" not in vae.config:  # mini's
        factor = vae.config["patch_size"]
        channels = 3 * factor**2 if isinstance(factor, int) else None
    else:
        patch = patch_size(vae)
        factor = patch * 2 ** (len(vae.config["block_out_channels"]) - 1)
        channels = vae.config["latent_channels"] * patch**2
    if "batch_norm_eps" not in vae.config:
        scaling = vae.config.get("scaling_factor")
        if not isinstance(scaling, int | float) or isinstance(scaling, bool) or not scaling > 0:
            raise WeightsError(f"{where}: the autoencoder's scaling_factor must be a positive number, not {scaling!r}")
    if factor != spec.vae_scale_factor:
        raise WeightsError(
            f"{where}: a latent covers {factor!r} pixels in the autoencoder, {spec.vae_scale_factor} in {spec.name}"
        )
    if channels != (taken := config.get("in_channels")):
        raise WeightsError(f"{where}: the autoencoder has {channels} latent channels, but the denoiser takes {taken}")
