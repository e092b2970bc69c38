"""`mini`'s network as a component of a diffusers pipeline, and its growth."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.modeling_utils import ModelMixin

from tsdsr.errors import ConfigError
from tsdsr.models.mini_network import PROMPTS, MiniNetwork, ResBlock, zero_init


class MiniUNet(MiniNetwork, ModelMixin, ConfigMixin):
    """:class:`~tsdsr.models.mini_network.MiniNetwork` with diffusers' ``from_pretrained`` and ``save_pretrained``.

    Args: those of :class:`~tsdsr.models.mini_network.MiniNetwork`.
    """

    _supports_gradient_checkpointing = False

    @register_to_config
    def __init__(
        self,
        in_channels: int = 48,
        channels: Sequence[int] = (64, 128, 192),
        encoder_blocks: Sequence[int] = (3, 2, 4),
        decoder_blocks: Sequence[int] = (4, 2),
        embed_dim: int = 128,
        num_prompts: int = len(PROMPTS),
        learned_skip: bool = False,
        fine_channels: int = 0,
        fine_blocks: int = 2,
    ) -> None:
        super().__init__(
            in_channels, channels, encoder_blocks, decoder_blocks, embed_dim, num_prompts, learned_skip, fine_channels,
            fine_blocks,
        )  # fmt: skip


def expand_network(network: MiniUNet, changes: Mapping[str, Any]) -> MiniUNet:
    """Create a larger network that computes the same function, as a starting point for further training.

    New blocks and levels are initialised so that they add nothing.

    Args:
        network (MiniUNet): network whose weights are copied.
        changes (mapping): changed arguments: more blocks at the end of a stage, a fine level, a learned skip.

    Returns:
        MiniUNet: the larger network.

    Raises:
        ConfigError: the weights do not fit a network with these arguments.
    """
    config: Any = network.config
    arguments = {name: value for name, value in config.items() if not name.startswith("_")}
    large: MiniUNet = MiniUNet(**{**arguments, **changes})
    known = dict(network.named_modules())
    for name, module in large.named_modules():
        if isinstance(module, ResBlock) and name not in known:
            zero_init(module.conv2)
    try:
        _, surplus = large.load_state_dict(network.state_dict(), strict=False)
    except RuntimeError as error:
        raise ConfigError(f"a network cannot grow by {dict(changes)}: {error}") from error
    if surplus:
        raise ConfigError(f"a network cannot shrink: {dict(changes)} has no place for {surplus[0]}")
    return large
