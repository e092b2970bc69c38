"""FLUX.2's transformer for one fixed time and prompt, see :mod:`tsdsr.models.folded`.

All blocks of a kind share their modulation, so it disappears from the network, and each block gets norms of its own.
The first block's queries, keys and values of the text are stored with their norm and rotation. After the last block
only the image's tokens are needed, so there the text's tokens are nothing but keys and values.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

import torch
from diffusers.configuration_utils import register_to_config
from diffusers.models.attention_dispatch import dispatch_attention_fn
from diffusers.models.embeddings import apply_rotary_emb
from diffusers.models.transformers.transformer_flux2 import (
    Flux2PosEmbed,
    Flux2SingleTransformerBlock,
    Flux2Transformer2DModel,
    Flux2TransformerBlock,
)
from torch import Tensor, nn

from tsdsr.models.flux2_tokens import from_tokens, image_positions, text_positions, to_tokens
from tsdsr.models.folded_parts import Constant, FoldedNetwork, materialise, skeleton

Rotation = tuple[Tensor, Tensor]
"""Cosines and sines of the rotary embedding, float32, each (tokens, width of a head)."""

_SIZES = 8  # whose rotations are kept; each takes 1.6 MB at 512 pixels

_TEXT_PROJECTIONS = ("add_q_proj", "add_k_proj", "add_v_proj")


class StoredTextProcessor:
    """Attention of both streams for text whose queries, keys and values are stored, normalised and rotated."""

    _attention_backend = None  # set by diffusers' set_attention_backend

    def __call__(
        self,
        attn: Any,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor,
        attention_mask: None = None,
        image_rotary_emb: Rotation | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Map image (B, N, dim) and text (B, M, dim), of which only the sizes are used, to the outputs of both."""
        x, tokens = hidden_states, encoder_hidden_states.shape[1]
        rotation = _without_text(image_rotary_emb, tokens)
        own = (
            _rotated(attn.norm_q(_heads(attn, attn.to_q(x))), rotation),
            _rotated(attn.norm_k(_heads(attn, attn.to_k(x))), rotation),
            _heads(attn, attn.to_v(x)),
        )
        stored = (_heads(attn, getattr(attn, name)(x)) for name in _TEXT_PROJECTIONS)
        query, key, value = (torch.cat(parts, dim=1) for parts in zip(stored, own, strict=True))
        found = dispatch_attention_fn(query, key, value, backend=self._attention_backend).flatten(2)
        return attn.to_out[0](found[:, tokens:]), attn.to_add_out(found[:, :tokens])


class ImageQueriesProcessor:
    """Attention and feed-forward of a block of one stream for the image's tokens; the text's are keys and values.

    Args:
        tokens (int): number of text tokens, which come first.
    """

    _attention_backend = None

    def __init__(self, tokens: int) -> None:
        self.tokens = tokens

    def __call__(
        self,
        attn: Any,
        hidden_states: Tensor,
        attention_mask: None = None,
        image_rotary_emb: Rotation | None = None,
    ) -> Tensor:
        """Map text and image (B, M + N, dim) to the output of the image (B, N, dim)."""
        image = hidden_states[:, self.tokens :]
        key, value = (_heads(attn, part) for part in attn.to_kv(hidden_states).chunk(2, dim=-1))
        query = _rotated(attn.norm_q(_heads(attn, attn.to_q(image))), _without_text(image_rotary_emb, self.tokens))
        key = _rotated(attn.norm_k(key), image_rotary_emb)
        found = dispatch_attention_fn(query, key, value, backend=self._attention_backend).flatten(2)
        output: Tensor = attn.to_out(torch.cat([found, attn.mlp_act_fn(attn.to_mlp(image))], dim=-1))
        return output


class FoldedDoubleBlock(nn.Module):
    """A block of two streams without modulation.

    Args:
        block (Flux2TransformerBlock): full block whose attention and feed-forward modules are reused.
        dim (int): width of both streams.
        eps (float): of the norms.
    """

    def __init__(self, block: Flux2TransformerBlock, dim: int, eps: float) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(dim, eps), nn.LayerNorm(dim, eps)
        self.norm1_context: nn.Module = nn.LayerNorm(dim, eps)
        self.norm2_context = nn.LayerNorm(dim, eps)
        self.attn, self.ff, self.ff_context = block.attn, block.ff, block.ff_context

    def store_text(self, tokens: int) -> None:
        """Replace what depends only on the text in the first block."""
        dim = self.attn.inner_dim
        self.norm1_context = self.attn.norm_added_q = self.attn.norm_added_k = nn.Identity()
        for name in _TEXT_PROJECTIONS:
            setattr(self.attn, name, Constant(tokens, dim))
        self.attn.set_processor(StoredTextProcessor())

    def forward(self, x: Tensor, context: Tensor, rotation: Rotation) -> tuple[Tensor, Tensor]:
        """Update x (B, N, dim) and context (B, M, dim)."""
        h, c = self.attn(self.norm1(x), self.norm1_context(context), image_rotary_emb=rotation)
        x, context = x + h, context + c
        x = x + self.ff(self.norm2(x))
        return x, _clipped(context + self.ff_context(self.norm2_context(context)))


class FoldedSingleBlock(nn.Module):
    """A block of one stream without modulation.

    Args:
        block (Flux2SingleTransformerBlock): full block whose attention module is reused.
        dim (int): width of the stream.
        eps (float): of the norm.
    """

    def __init__(self, block: Flux2SingleTransformerBlock, dim: int, eps: float) -> None:
        super().__init__()
        self.norm, self.attn = nn.LayerNorm(dim, eps), block.attn
        self.dropped = 0

    def drop_text(self, tokens: int) -> None:
        """Return only the image's tokens, in the last block; its projection becomes three, for different tokens."""
        fused, dim = self.attn.to_qkv_mlp_proj, self.attn.inner_dim
        del self.attn.to_qkv_mlp_proj
        for name, rows in (("to_q", dim), ("to_kv", 2 * dim), ("to_mlp", fused.out_features - 3 * dim)):
            setattr(self.attn, name, nn.Linear(fused.in_features, rows, bias=False))
        self.attn.set_processor(ImageQueriesProcessor(tokens))
        self.dropped = tokens

    def forward(self, x: Tensor, rotation: Rotation) -> Tensor:
        """Map text and image (B, M + N, dim) to the same, in the last block to the image (B, N, dim)."""
        return _clipped(x[:, self.dropped :] + self.attn(self.norm(x), image_rotary_emb=rotation))


class FoldedFlux2(FoldedNetwork):
    """``diffusers.Flux2Transformer2DModel`` (FLUX.2 klein) at a fixed time and prompt.

    Args:
        network (mapping): the full network's configuration.
        timestep (float): the fixed time.
        prompt (mapping): :func:`~tsdsr.models.folded_parts.prompt_signature` of the fixed prompt.
        tokens (int): length of the prompt in tokens.
    """

    @register_to_config
    def __init__(
        self, network: Mapping[str, Any], timestep: float, prompt: Mapping[str, Sequence[Sequence[float]]], tokens: int
    ) -> None:
        super().__init__()
        full = skeleton(Flux2Transformer2DModel, network)
        dim, eps = full.inner_dim, full.config["eps"]
        with torch.device("meta"):
            self.context = Constant(tokens, dim)
            double = [FoldedDoubleBlock(block, dim, eps) for block in full.transformer_blocks]
            single = [FoldedSingleBlock(block, dim, eps) for block in full.single_transformer_blocks]
            double[0].store_text(tokens)
            single[-1].drop_text(tokens)
            self.norm_out = nn.LayerNorm(dim, eps)
        self.transformer_blocks, self.single_transformer_blocks = nn.ModuleList(double), nn.ModuleList(single)
        self.x_embedder, self.proj_out = full.x_embedder, full.proj_out
        self._rotary = (full.config["rope_theta"], tuple(full.config["axes_dims_rope"]), tokens)
        materialise(self)

    def forward(self, sample: Tensor) -> Tensor:
        """Map a latent (B, C, h, w) to the native prediction, same shape."""
        height, width = sample.shape[-2:]
        rotation = (_rotation if _recorded(sample) else _kept_rotation)(*self._rotary, height, width, sample.device)
        x, context = self.x_embedder(to_tokens(sample)), self.context(sample)
        for block in self.transformer_blocks:
            x, context = block(x, context, rotation)
        x = torch.cat([context, x], dim=1)
        for block in self.single_transformer_blocks:
            x = block(x, rotation)
        return from_tokens(self.proj_out(self.norm_out(x)), height, width)


def _rotation(
    theta: float, axes: tuple[int, ...], tokens: int, height: int, width: int, device: torch.device
) -> Rotation:
    """Compute the rotary embedding of text and image tokens, as diffusers does."""
    positions = torch.cat([text_positions(tokens, device), image_positions(height, width, device)])
    found: Rotation = Flux2PosEmbed(theta, list(axes))(positions)
    return found


def _recorded(sample: Tensor) -> bool:
    """Whether a call is traced, or captured as a CUDA graph: then the computation of a rotation has to be part of it.

    A tracer's symbols must not be kept, and a graph would go on reading a kept rotation after its memory is given away.
    """
    captured = sample.is_cuda and torch.cuda.is_current_stream_capturing()
    return captured or torch.compiler.is_compiling() or type(sample) is not Tensor


@lru_cache(maxsize=_SIZES)
def _kept_rotation(*arguments: Any) -> Rotation:
    with torch.inference_mode(False), torch.no_grad():
        return _rotation(*arguments)


def _without_text(rotation: Rotation | None, tokens: int) -> Rotation:
    assert rotation is not None
    return rotation[0][tokens:], rotation[1][tokens:]


def _rotated(x: Tensor, rotation: Rotation | None) -> Tensor:
    found: Tensor = apply_rotary_emb(x, rotation, sequence_dim=1)
    return found


def _heads(attn: Any, x: Tensor) -> Tensor:
    """Split (B, N, dim) into heads (B, N, heads, width)."""
    return x.reshape(*x.shape[:-1], -1, attn.head_dim)


def _clipped(x: Tensor) -> Tensor:
    """Keep half precision finite where diffusers does."""
    return x.clip(-65504, 65504) if x.dtype == torch.float16 else x
