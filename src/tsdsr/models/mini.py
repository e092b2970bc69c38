"""`mini`'s network as a component of a diffusers pipeline, and its growth."""

from __future__ import annotations

from collections.abc import Mapping
from functools import wraps
from typing import Any

from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.modeling_utils import ModelMixin

from tsdsr.errors import ConfigError
from tsdsr.models.mini_network import MiniNetwork, ResBlock, zero_init


class MiniUNet(MiniNetwork, ModelMixin, ConfigMixin):
    """:class:`~tsdsr.models.mini_network.MiniNetwork` with diffusers' ``from_pretrained`` and ``save_pretrained``.

    Args: those of :class:`~tsdsr.models.mini_network.MiniNetwork`.
    """

    _supports_gradient_checkpointing = False

    @register_to_config
    @wraps(MiniNetwork.__init__)  # diffusers stores the arguments that the signature names
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)


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
