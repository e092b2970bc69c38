"""Faults of a network that the names and shapes of its tensors do not show."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import nn

from tsdsr.errors import ModelError, WeightsError


def check_settings(config: Mapping[str, Any], path: Path) -> None:
    """Check what no tensor of a FLUX.2 network depends on: positions, guidance, scale of the latents.

    Args:
        config (mapping): settings of a network of any class, with the defaults of its class.
        path (Path): the file they come from, for messages.

    Raises:
        ModelError: the network takes a guidance.
        WeightsError: a setting is out of range.
    """
    config = config.get("network", config)  # a folded network holds the settings of the full one
    if config.get("guidance_embeds"):
        raise ModelError(
            f"{path}: the network takes a guidance (guidance_embeds), as that of FLUX.2-dev does; only networks "
            "without are supported, such as that of FLUX.2-klein-base"
        )
    if "axes_dims_rope" in config or "rope_theta" in config:
        _check_positions(config.get("axes_dims_rope"), config.get("rope_theta"), config.get("attention_head_dim"), path)
        if not _is_number(config.get("eps")) or not config["eps"] > 0:
            raise WeightsError(f"{path}: eps must be a positive number, not {config.get('eps')!r}")
    epsilon = config.get("batch_norm_eps", 0.0)
    if not _is_number(epsilon) or not 0 <= epsilon < 1:
        raise WeightsError(f"{path}: batch_norm_eps must be a number from 0 to 1, not {epsilon!r}")


def check_statistics(network: nn.Module, folder: Path) -> None:
    """Check the variances of FLUX.2's latents, which are divided by their square roots.

    Raises:
        WeightsError: one of an autoencoder is not positive.
    """
    norm = getattr(network, "bn", None)
    if isinstance(norm, nn.BatchNorm2d) and norm.running_var is not None:
        least = float(norm.running_var.min())
        if least < 0 or least + norm.eps <= 0:
            raise WeightsError(
                f"{folder}: bn.running_var contains {least:g}, which is not a variance; copy the model again"
            )


def _check_positions(axes: Any, theta: Any, width: Any, path: Path) -> None:
    """Check the parts of a head that the four axes of a position rotate, two values at a time."""
    if not isinstance(axes, list | tuple) or len(axes) != 4 or any(not _is_even(axis) for axis in axes):
        raise WeightsError(f"{path}: axes_dims_rope must be four even numbers, not {axes!r}")
    if sum(axes) != width:
        raise WeightsError(f"{path}: axes_dims_rope adds up to {sum(axes)}, but a head is {width} wide")
    if not _is_number(theta) or not theta > 0:
        raise WeightsError(f"{path}: rope_theta must be a positive number, not {theta!r}")


def _is_even(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0 and value % 2 == 0


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
