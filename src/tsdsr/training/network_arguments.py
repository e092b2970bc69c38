"""Checks of ``networks.config``: the constructor arguments of a network."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

from tsdsr.errors import ConfigError
from tsdsr.field_checks import shown
from tsdsr.models.mini_network import PROMPTS
from tsdsr.models.zoo import ModelSpec

_FIXED = ("self", "in_channels")
"""Parameters that are no settings: the autoencoder determines the number of latent channels."""


def check_network_arguments(spec: ModelSpec, arguments: Mapping[str, Any]) -> None:
    """Check names and kinds of a network's arguments against the parameters of its class and their defaults.

    Args:
        spec (ModelSpec): the base model.
        arguments (mapping): arguments that differ from the base model's.

    Raises:
        ConfigError: an argument is unknown, of another kind than its default, or negative.
    """
    parameters = inspect.signature(spec.denoiser_class.__init__).parameters
    known = {name: parameter.default for name, parameter in parameters.items() if name not in _FIXED}
    for name, value in arguments.items():
        if name not in known:
            raise ConfigError(f"config has no {name!r}; {spec.name}'s network takes {', '.join(known)}")
        if not _is_like(value, known[name]):
            raise ConfigError(f"config.{name} must be {_kind(known[name])}, got {shown(value)}")
    if "labels" in spec.prompt_shapes and arguments.get("num_prompts", len(PROMPTS)) < len(PROMPTS):
        raise ConfigError(f"config.num_prompts must be at least {len(PROMPTS)}, got {arguments['num_prompts']}")


def _is_like(value: Any, default: Any) -> bool:
    if isinstance(default, bool):
        return isinstance(value, bool)
    if isinstance(default, int):
        low = min(1, default)
        return isinstance(value, int) and not isinstance(value, bool) and low <= value < 2**31
    if isinstance(default, tuple | list) and default:
        return isinstance(value, tuple | list) and len(value) > 0 and all(_is_like(v, default[0]) for v in value)
    return True


def _kind(default: Any) -> str:
    if isinstance(default, bool):
        return "true or false"
    if isinstance(default, int):
        return f"a whole number of at least {min(1, default)}"
    return f"a list, each {_kind(default[0])}"
