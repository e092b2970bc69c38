"""Folded students: networks for one fixed time and prompt, with everything that depends only on these precomputed.

Each class is the full network with parts removed; the remaining submodules are those of diffusers:

* adaLN, ``LN(x) (1 + scale) + shift``, becomes a layer norm with weight ``1 + scale`` and bias ``shift``;
* a gate on a branch that ends in a linear layer, ``gate (W h + b)``, becomes the linear layer
  ``(gate W) h + gate b``;
* a time embedding added after a convolution becomes part of the convolution's bias;
* layers that depend only on the prompt become a :class:`~tsdsr.models.folded_parts.Constant`.

:mod:`tsdsr.optimize.fold` creates them from full networks. They cannot be trained.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from diffusers.configuration_utils import register_to_config
from diffusers.models.attention import BasicTransformerBlock, JointTransformerBlock
from diffusers.models.modeling_utils import ModelMixin
from diffusers.models.resnet import ResnetBlock2D
from diffusers.models.transformers.transformer_flux2 import Flux2Transformer2DModel
from diffusers.models.transformers.transformer_sd3 import SD3Transformer2DModel
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from torch import Tensor, nn

from tsdsr.models.folded_flux2 import FoldedFlux2
from tsdsr.models.folded_parts import Constant, FoldedNetwork, RemovedLayer, materialise, skeleton
from tsdsr.models.mini import MiniUNet
from tsdsr.models.mini_network import Modulation


class FixedModulation(nn.Module):
    """Replaces :class:`~tsdsr.models.mini_network.Modulation` by a stored ``1 + scale`` and ``shift``.

    Args:
        channels (int): number of channels C of the feature map.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(1, channels, 1, 1))
        self.shift = nn.Parameter(torch.zeros(1, channels, 1, 1))

    def forward(self, x: Tensor, emb: Tensor) -> Tensor:
        """Map x (B, C, h, w) to ``x scale + shift``; ``emb`` is ignored."""
        return torch.addcmul(self.shift, x, self.scale)


class FoldedBlock(nn.Module):
    """A block of SD3's transformer without modulation: a plain pre-norm block over the image and text streams.

    Args:
        block (JointTransformerBlock): full block whose attention and feed-forward modules are reused.
        dim (int): width of both streams.
    """

    def __init__(self, block: JointTransformerBlock, dim: int) -> None:
        super().__init__()

        def norm() -> nn.LayerNorm:
            return nn.LayerNorm(dim, eps=1e-6)

        self.norm1, self.norm1_context, self.attn = norm(), norm(), block.attn
        self.dual, self.last = block.attn2 is not None, block.ff_context is None
        if self.dual:
            self.norm1_dual, self.attn2 = norm(), block.attn2
        self.norm2, self.ff = norm(), block.ff
        if not self.last:
            self.norm2_context, self.ff_context = norm(), block.ff_context

    def forward(self, x: Tensor, context: Tensor) -> tuple[Tensor, Tensor]:
        """Update x (B, N, dim) and context (B, M, dim); the last block returns the context unchanged."""
        h, c = self.attn(self.norm1(x), self.norm1_context(context))
        if self.dual:
            h = h + self.attn2(self.norm1_dual(x))
        x = x + h
        x = x + self.ff(self.norm2(x))
        if not self.last:
            context = context + c
            context = context + self.ff_context(self.norm2_context(context))
        return x, context


class FoldedMMDiT(FoldedNetwork):
    """``diffusers.SD3Transformer2DModel`` (SD3, SD3.5) at a fixed time and prompt.

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
        full = skeleton(SD3Transformer2DModel, network)
        dim = full.inner_dim
        with torch.device("meta"):
            self.context = Constant(tokens, dim)
            blocks: Any = [FoldedBlock(block, dim) for block in full.transformer_blocks]
            self.norm_out = nn.LayerNorm(dim, eps=1e-6)
            first, last = blocks[0], blocks[-1]
            first.norm1_context = nn.Identity()
            for name in ("add_q_proj", "add_k_proj", "add_v_proj"):
                setattr(first.attn, name, Constant(tokens, dim))
            # The last block's text output is unused, but diffusers' attention requires at least one text query.
            last.attn.add_q_proj = Constant(1, dim)
        self.transformer_blocks = nn.ModuleList(blocks)
        self.pos_embed, self.proj_out = full.pos_embed, full.proj_out
        materialise(self)

    def forward(self, sample: Tensor) -> Tensor:
        """Map a latent (B, C, h, w), h and w multiples of the patch size, to the native prediction, same shape."""
        height, width = sample.shape[-2:]
        x, context = self.pos_embed(sample).contiguous(), self.context(sample)
        for block in self.transformer_blocks:
            x, context = block(x, context)
        size = self.pos_embed.patch_size
        patches: Tensor = self.proj_out(self.norm_out(x))
        patches = patches.reshape(len(x), height // size, width // size, size, size, -1)
        return patches.permute(0, 5, 1, 3, 2, 4).reshape(len(x), -1, height, width)


class FoldedUNet(FoldedNetwork):
    """``diffusers.UNet2DConditionModel`` (SD2, SD2.1) at a fixed time and prompt.

    Args:
        network, timestep, prompt, tokens: as for :class:`FoldedMMDiT`.
    """

    @register_to_config
    def __init__(
        self, network: Mapping[str, Any], timestep: float, prompt: Mapping[str, Sequence[Sequence[float]]], tokens: int
    ) -> None:
        super().__init__()
        self.unet = skeleton(UNet2DConditionModel, network)
        self.unet.time_embedding = RemovedLayer()
        with torch.device("meta"):
            for module in self.unet.modules():
                if isinstance(module, ResnetBlock2D):
                    module.time_emb_proj = None
                elif isinstance(module, BasicTransformerBlock):
                    module.attn2.to_k = Constant(tokens, module.attn2.inner_kv_dim)
                    module.attn2.to_v = Constant(tokens, module.attn2.inner_kv_dim)
        materialise(self)

    def forward(self, sample: Tensor) -> Tensor:
        """Latent (B, C, h, w) → native prediction, same shape."""
        time = torch.full((1,), self.config["timestep"], device=sample.device)  # a number would be copied from the host
        prediction: Tensor = self.unet(sample, time, None, return_dict=False)[0]
        return prediction


class FoldedMini(FoldedNetwork):
    """:class:`~tsdsr.models.mini.MiniUNet` at a fixed time and prompt.

    Args:
        network, timestep, prompt: as for :class:`FoldedMMDiT`.
    """

    @register_to_config
    def __init__(
        self, network: Mapping[str, Any], timestep: float, prompt: Mapping[str, Sequence[Sequence[float]]]
    ) -> None:
        super().__init__()
        self.unet = skeleton(MiniUNet, network)
        self.unet.time_embedding = self.unet.prompt_embedding = None
        with torch.device("meta"):
            for name, module in list(self.unet.named_modules()):
                if isinstance(module, Modulation):
                    self.unet.set_submodule(name, FixedModulation(module.linear.out_features // 2))
            if self.unet.skip is not None:
                self.unet.skip = Constant(self.unet.skip.out_features)
        materialise(self)

    def forward(self, sample: Tensor) -> Tensor:
        """Latent (B, C, h, w) → native prediction, same shape."""
        prediction: Tensor = self.unet.predict(sample, sample)  # the replaced layers use only the batch size
        return prediction


FOLDED_CLASSES: dict[type[ModelMixin], type[FoldedNetwork]] = {
    SD3Transformer2DModel: FoldedMMDiT,
    Flux2Transformer2DModel: FoldedFlux2,
    UNet2DConditionModel: FoldedUNet,
    MiniUNet: FoldedMini,
}
"""Class of a network → class of the network folded from it."""
