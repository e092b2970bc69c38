"""Exact folding: layers that depend only on the student's fixed time and prompt are replaced by stored tensors.

The arithmetic is described in :mod:`tsdsr.models.folded`. Constants are computed in float32 for every dtype of the
network and rounded once.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from diffusers.models.attention import BasicTransformerBlock
from diffusers.models.embeddings import apply_rotary_emb
from diffusers.models.resnet import ResnetBlock2D
from diffusers.models.transformers.transformer_flux2 import Flux2Transformer2DModel
from diffusers.models.transformers.transformer_sd3 import SD3Transformer2DModel
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from torch import Tensor, nn

from tsdsr.errors import InvalidInputError
from tsdsr.models.conditioning import Conditioning
from tsdsr.models.flux2_tokens import text_positions
from tsdsr.models.folded import FoldedMini, FoldedMMDiT, FoldedUNet
from tsdsr.models.folded_flux2 import FoldedFlux2
from tsdsr.models.folded_parts import FoldedNetwork, prompt_signature
from tsdsr.models.mini import MiniUNet
from tsdsr.models.mini_network import Modulation
from tsdsr.pipeline.diffusers_pipeline import OneStepSRPipeline, require_diffusers_pipeline

State = dict[str, Tensor]


@dataclass(frozen=True)
class Footprint:
    """Size of a network's weights.

    Attributes:
        values (int): number of stored values.
        bytes (int): their size in bytes.
    """

    values: int
    bytes: int

    @classmethod
    def of(cls, network: nn.Module) -> Footprint:
        """Measure a network; a tensor shared by several layers counts once."""
        tensors = list(network.state_dict(keep_vars=True).values())
        unique = {id(tensor): tensor for tensor in tensors}.values()
        return cls(sum(t.numel() for t in unique), sum(t.numel() * t.element_size() for t in unique))


@dataclass(frozen=True)
class FoldReport:
    """Size of a denoiser before and after folding.

    Attributes:
        before (Footprint): size of the full denoiser.
        after (Footprint): size of the folded denoiser.
    """

    before: Footprint
    after: Footprint


def fold(pipe: OneStepSRPipeline) -> FoldReport:
    """Fold a pipeline's denoiser in place; results stay the same within rounding.

    The previous denoiser is consumed: the folded one takes over its tensors, some of them modified, so no second copy
    of the weights is made. A folded pipeline is saved and loaded like any other. It cannot be trained.

    Args:
        pipe (OneStepSRPipeline): pipeline on any device, in any precision, with LoRA merged.

    Returns:
        FoldReport: size of the denoiser before and after.

    Raises:
        InvalidInputError: ``pipe`` is no diffusers pipeline, or the denoiser is already folded or quantised, has
            unmerged LoRA adapters, or is of an unsupported class.
    """
    require_diffusers_pipeline(pipe, "fold")
    before = Footprint.of(pipe.denoiser)
    folded = fold_network(pipe.denoiser, pipe.spec.timestep, pipe.prompt.conditioning())
    pipe.register_modules(denoiser=folded)
    return FoldReport(before, Footprint.of(folded))


@torch.no_grad()
def fold_network(network: Any, timestep: float, prompt: Conditioning) -> FoldedNetwork:
    """Fold one network. The network is consumed, see :func:`fold`.

    Args:
        network (nn.Module): an instance of a class that :func:`tsdsr.models.denoiser.as_denoiser` supports.
        timestep (float): the fixed time.
        prompt (Conditioning): the fixed prompt, batch size 1.

    Returns:
        FoldedNetwork: the folded network, on the same device and in the same dtype.

    Raises:
        InvalidInputError: see :func:`fold`.
    """
    if isinstance(network, FoldedNetwork):
        raise InvalidInputError("this model is already folded")
    kind = next((kind for kind in _KINDS if isinstance(network, kind)), None)
    if kind is None:
        known = ", ".join(kind.__name__ for kind in _KINDS)
        raise InvalidInputError(f"{type(network).__name__} cannot be folded, only {known}")
    state: State = dict(network.state_dict())
    if any(".lora_A." in key or ".base_layer." in key for key in state):
        raise InvalidInputError("the network carries LoRA adapters: merge them before folding")
    if any(type(parameter) is not nn.Parameter for parameter in network.parameters()):
        raise InvalidInputError("the network is quantised: fold it first, then quantise it")
    device, signature = next(iter(state.values())).device, prompt_signature(prompt)
    prompt = prompt.to(device, torch.float32)
    folded_class, fold_state = _KINDS[kind]
    arguments = fold_state(network, state, torch.tensor([float(timestep)], device=device), prompt)
    config = {key: value for key, value in network.config.items() if not key.startswith("_")}
    arguments |= {"network": config, "timestep": float(timestep), "prompt": signature}
    with torch.device("meta"):
        folded: FoldedNetwork = folded_class(**arguments)
    folded.load_state_dict({key: value.to(network.dtype) for key, value in state.items()}, assign=True)
    folded.requires_grad_(False).eval()
    return folded


def _fold_mmdit(network: Any, state: State, t: Tensor, prompt: Conditioning) -> dict[str, Any]:
    """Rewrite ``state`` from SD3's transformer to :class:`FoldedMMDiT` and return its remaining arguments."""
    tokens = Conditioning.require(prompt.prompt_embeds, "prompt_embeds")
    pooled = Conditioning.require(prompt.pooled_prompt_embeds, "pooled_prompt_embeds")
    emb = F.silu(_in_float32(network.time_text_embed)(t, pooled))
    context = _linear(network.context_embedder, tokens)
    _drop(state, "time_text_embed.", "context_embedder.")
    state["context.value"] = context
    for i, block in enumerate(network.transformer_blocks):
        _fold_image_stream(block, state, f"transformer_blocks.{i}.", emb)
        _fold_text_stream(block, state, f"transformer_blocks.{i}.", emb)
    _fold_first_text(network.transformer_blocks[0].attn, state, "transformer_blocks.0.", context)
    last = f"transformer_blocks.{len(network.transformer_blocks) - 1}.attn.add_q_proj."
    _drop(state, last)
    state[last + "value"] = context.new_zeros(1, 1, network.inner_dim)
    scale, shift = _linear(network.norm_out.linear, emb)[0].chunk(2)
    _fold_norm(state, "norm_out", scale, shift)
    return {"tokens": tokens.shape[1]}


def _fold_image_stream(block: Any, state: State, prefix: str, emb: Tensor) -> None:
    """Fold AdaLN-Zero: (shift, scale, gate) of attention, feed-forward and, in SD3.5, of the second attention."""
    parts = _linear(block.norm1.linear, emb).reshape(-1, 3, *block.norm2.normalized_shape)
    branches = (("norm1", "attn.to_out.0"), ("norm2", "ff.net.2"), ("norm1_dual", "attn2.to_out.0"))
    for (norm, output), modulation in zip(branches, parts, strict=False):
        _fold_modulation(state, prefix, norm, output, modulation)


def _fold_text_stream(block: Any, state: State, prefix: str, emb: Tensor) -> None:
    """Fold AdaLN-Zero of the text; the last block only normalises, with scale and shift in the opposite order."""
    values = _linear(block.norm1_context.linear, emb)[0]
    if block.context_pre_only:
        scale, shift = values.chunk(2)
        _fold_norm(state, prefix + "norm1_context", scale, shift)
        return
    branches = (("norm1_context", "attn.to_add_out"), ("norm2_context", "ff_context.net.2"))
    for (norm, output), modulation in zip(branches, values.reshape(2, 3, -1), strict=True):
        _fold_modulation(state, prefix, norm, output, modulation)


def _fold_first_text(attn: Any, state: State, prefix: str, context: Tensor) -> None:
    """Fold the first block's text queries, keys and values: the text tokens do not depend on the image there."""
    weight, bias = (state.pop(f"{prefix}norm1_context.{kind}") for kind in ("weight", "bias"))
    normed = F.layer_norm(context, weight.shape, weight, bias, eps=1e-6)
    for name in ("add_q_proj", "add_k_proj", "add_v_proj"):
        _drop(state, f"{prefix}attn.{name}.")
        state[f"{prefix}attn.{name}.value"] = _linear(getattr(attn, name), normed)


def _fold_flux2(network: Any, state: State, t: Tensor, prompt: Conditioning) -> dict[str, Any]:
    """Rewrite ``state`` from FLUX.2's transformer to :class:`FoldedFlux2` and return its remaining arguments."""
    tokens = Conditioning.require(prompt.prompt_embeds, "prompt_embeds")
    if not (len(network.transformer_blocks) and len(network.single_transformer_blocks)):
        raise InvalidInputError("folding needs a FLUX.2 with double-stream and single-stream blocks")
    emb = F.silu(_in_float32(network.time_guidance_embed)(t / 1000 * 1000, None))  # rounded as the network's call is
    context = _linear(network.context_embedder, tokens)
    image, text, single = (
        _linear(getattr(network, f"{name}_modulation{stream}").linear, emb).reshape(-1, 3, network.inner_dim)
        for name, stream in (("double_stream", "_img"), ("double_stream", "_txt"), ("single_stream", ""))
    )
    _drop(state, "time_guidance_embed.", "context_embedder.", "double_stream_modulation_", "single_stream_modulation.")
    state["context.value"] = context
    branches = (
        ("norm1", "attn.to_out.0", image[0]), ("norm2", "ff.linear_out", image[1]),
        ("norm1_context", "attn.to_add_out", text[0]), ("norm2_context", "ff_context.linear_out", text[1]),
    )  # fmt: skip
    for i in range(len(network.transformer_blocks)):
        for norm, output, modulation in branches:
            _fold_modulation(state, f"transformer_blocks.{i}.", norm, output, modulation)
    for i in range(len(network.single_transformer_blocks)):
        _fold_modulation(state, f"single_transformer_blocks.{i}.", "norm", "attn.to_out", single[0])
    _fold_first_flux2_text(network, state, "transformer_blocks.0.", context)
    last = f"single_transformer_blocks.{len(network.single_transformer_blocks) - 1}.attn."
    fused, dim = state.pop(f"{last}to_qkv_mlp_proj.weight"), network.inner_dim
    for name, rows in (("to_q", slice(dim)), ("to_kv", slice(dim, 3 * dim)), ("to_mlp", slice(3 * dim, None))):
        state[f"{last}{name}.weight"] = fused[rows]  # a view: no copy is made
    scale, shift = _linear(network.norm_out.linear, emb)[0].chunk(2)
    _fold_norm(state, "norm_out", scale, shift)
    return {"tokens": tokens.shape[1]}


def _fold_first_flux2_text(network: Any, state: State, prefix: str, context: Tensor) -> None:
    """Fold the first block's text queries, keys and values, with their norm and rotation."""
    attn = network.transformer_blocks[0].attn
    weight, bias = (state.pop(f"{prefix}norm1_context.{kind}") for kind in ("weight", "bias"))
    normed = F.layer_norm(context, weight.shape, weight, bias, eps=network.config["eps"])
    rotation = network.pos_embed(text_positions(context.shape[1], context.device))
    for kind in "qkv":
        found = _linear(getattr(attn, f"add_{kind}_proj"), normed)
        if kind != "v":
            norm = _in_float32(getattr(attn, f"norm_added_{kind}"))
            heads = norm(found.reshape(*found.shape[:-1], -1, attn.head_dim))
            found = apply_rotary_emb(heads, rotation, sequence_dim=1).flatten(2)
            _drop(state, f"{prefix}attn.norm_added_{kind}.")
        _drop(state, f"{prefix}attn.add_{kind}_proj.")
        state[f"{prefix}attn.add_{kind}_proj.value"] = found


def _fold_unet(network: Any, state: State, t: Tensor, prompt: Conditioning) -> dict[str, Any]:
    """Rewrite ``state`` from SD2's U-Net to :class:`FoldedUNet` and return its remaining arguments."""
    tokens = Conditioning.require(prompt.prompt_embeds, "prompt_embeds")
    emb = _in_float32(network.time_embedding)(network.time_proj(t))
    _drop(state, "time_embedding.")
    for name, module in network.named_modules():
        if isinstance(module, ResnetBlock2D):
            if module.time_embedding_norm != "default" or module.skip_time_act:
                raise InvalidInputError(f"{name} uses its time embedding in a way that folding does not support")
            added = _linear(module.time_emb_proj, module.nonlinearity(emb))[0]
            state[f"{name}.conv1.bias"] = module.conv1.bias.float() + added
            _drop(state, f"{name}.time_emb_proj.")
        elif isinstance(module, BasicTransformerBlock):
            for projection in ("to_k", "to_v"):
                _drop(state, f"{name}.attn2.{projection}.")
                state[f"{name}.attn2.{projection}.value"] = _linear(getattr(module.attn2, projection), tokens)
    _prefix(state, "unet.")
    return {"tokens": tokens.shape[1]}


def _fold_mini(network: Any, state: State, t: Tensor, prompt: Conditioning) -> dict[str, Any]:
    """Rewrite ``state`` from `mini`'s network to :class:`FoldedMini` and return its remaining arguments."""
    labels = Conditioning.require(prompt.labels, "labels")
    time, learned = _in_float32(network.time_embedding), _in_float32(network.prompt_embedding)
    emb = F.silu(time(network.time_proj(t)) + learned(labels))
    _drop(state, "time_embedding.", "prompt_embedding.")
    for name, module in network.named_modules():
        if isinstance(module, Modulation):
            scale, shift = _linear(module.linear, emb)[:, :, None, None].chunk(2, dim=1)
            _drop(state, f"{name}.linear.")
            state[f"{name}.scale"], state[f"{name}.shift"] = 1 + scale, shift.clone()
    if network.skip is not None:
        _drop(state, "skip.")
        state["skip.value"] = _linear(network.skip, emb)
    _prefix(state, "unet.")
    return {}


def _fold_modulation(state: State, prefix: str, norm: str, output: str, modulation: Tensor) -> None:
    """Fold (shift, scale, gate) into the norm before a branch and into the linear layer that ends it."""
    shift, scale, gate = modulation
    _fold_norm(state, prefix + norm, scale, shift)
    _fold_gate(state, prefix + output, gate)


def _fold_norm(state: State, name: str, scale: Tensor, shift: Tensor) -> None:
    """Store ``1 + scale`` and ``shift`` as the weight and bias of the layer norm; drop the linear layer."""
    _drop(state, f"{name}.linear.")
    state[f"{name}.weight"], state[f"{name}.bias"] = 1 + scale, shift.clone()


def _fold_gate(state: State, name: str, gate: Tensor) -> None:
    """Rewrite ``gate (W h + b)`` as ``(gate W) h + gate b``, in place, because these are half of the weights."""
    state[f"{name}.weight"].mul_(gate[:, None])
    if f"{name}.bias" in state:
        state[f"{name}.bias"].mul_(gate)


def _linear(layer: nn.Linear, x: Tensor) -> Tensor:
    """Apply a linear layer in float32."""
    return F.linear(x, layer.weight.float(), None if layer.bias is None else layer.bias.float())


def _in_float32(module: nn.Module) -> nn.Module:
    return copy.deepcopy(module).float()


def _drop(state: State, *prefixes: str) -> None:
    for key in [key for key in state if key.startswith(prefixes)]:
        del state[key]


def _prefix(state: State, prefix: str) -> None:
    for key in list(state):
        state[prefix + key] = state.pop(key)


_KINDS: dict[
    type[nn.Module], tuple[type[FoldedNetwork], Callable[[Any, State, Tensor, Conditioning], dict[str, Any]]]
] = {
    SD3Transformer2DModel: (FoldedMMDiT, _fold_mmdit),
    Flux2Transformer2DModel: (FoldedFlux2, _fold_flux2),
    UNet2DConditionModel: (FoldedUNet, _fold_unet),
    MiniUNet: (FoldedMini, _fold_mini),
}
