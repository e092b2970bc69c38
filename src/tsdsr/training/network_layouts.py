"""Where the parts of each kind of network are: what precision, sharding and the discriminator need to know of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from torch import nn


@dataclass(frozen=True)
class NetworkLayout:
    """Names of modules of a kind of network.

    Attributes:
        blocks (tuple): modules whose weights are gathered together when a network is sharded; a list stands for its
            elements, "" for the network. Each is called as a module: an autoencoder itself is not, only its parts are.
        outer (tuple): input and output layers: those that read latents, times, prompts or write predictions.
        features (callable | None): network → the module whose output a discriminator receives, and its width; about
            the middle of the network.
        text_first (bool): whether this output is tokens of the text, followed by tokens of the image.
    """

    blocks: tuple[str, ...]
    outer: tuple[str, ...] = ()
    features: Callable[[Any], tuple[nn.Module, int]] | None = None
    text_first: bool = False


def _block(blocks: nn.ModuleList, part: int) -> nn.Module:
    """The block that follows a half, a third … of the blocks."""
    return blocks[len(blocks) // part]


_AUTOENCODER = NetworkLayout(
    blocks=(
        "encoder.down_blocks", "encoder.mid_block", "encoder",
        "decoder.up_blocks", "decoder.mid_block", "decoder", "quant_conv", "post_quant_conv",
    ),
)  # fmt: skip

LAYOUTS: Mapping[str, NetworkLayout] = MappingProxyType(
    {
        "SD3Transformer2DModel": NetworkLayout(
            blocks=("transformer_blocks", ""),
            outer=("pos_embed", "time_text_embed", "context_embedder", "norm_out", "proj_out"),
            features=lambda network: (_block(network.transformer_blocks, 2), int(network.inner_dim)),
        ),
        "Flux2Transformer2DModel": NetworkLayout(
            blocks=("transformer_blocks", "single_transformer_blocks", ""),
            outer=("time_guidance_embed", "x_embedder", "context_embedder", "norm_out", "proj_out"),
            features=lambda network: (_block(network.single_transformer_blocks, 3), int(network.inner_dim)),
            text_first=True,
        ),
        "UNet2DConditionModel": NetworkLayout(
            blocks=("down_blocks", "mid_block", "up_blocks", ""),
            outer=("conv_in", "time_embedding", "conv_norm_out", "conv_out"),
            features=lambda network: (network.mid_block, int(network.config["block_out_channels"][-1])),
        ),
        "MiniUNet": NetworkLayout(
            blocks=("encoder", "decoder", "fine", ""),
            outer=(
                "conv_in", "time_embedding", "modulation_out", "conv_out", "skip",
                "fine.up_sample", "fine.modulation_out", "fine.conv_out",
            ),
            features=lambda network: (network.encoder[-1], int(network.config["channels"][-1])),
        ),
        "AutoencoderKL": _AUTOENCODER,
        "AutoencoderKLFlux2": _AUTOENCODER,
    }
)  # fmt: skip
"""Name of a network's class → its layout. Names, because importing all classes takes seconds."""


def layout_of(network: nn.Module) -> NetworkLayout | None:
    """Return the layout of a network, whose class or a base of it is in the table; None for other modules."""
    return next((LAYOUTS[base.__name__] for base in type(network).__mro__ if base.__name__ in LAYOUTS), None)
