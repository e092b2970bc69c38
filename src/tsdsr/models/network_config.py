"""The files of a network in a diffusers folder, and its configuration. Imports no torch."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from tsdsr.errors import ModelNotFoundError, WeightsError

CONFIG = "config.json"
"""Name of the configuration."""

WEIGHTS = "diffusion_pytorch_model.safetensors"
"""Name of the weights, unless they are split into several files."""


def read_config(folder: Path) -> dict[str, Any]:
    """Read the ``config.json`` of a network.

    Raises:
        ModelNotFoundError: there is none.
        WeightsError: it is no JSON object, or contains a number that is not finite.
    """
    path = folder / CONFIG
    if not path.is_file():
        raise ModelNotFoundError(f"{folder}: no model there; a diffusers folder has a config.json in it")
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise WeightsError(f"{path}: is not valid JSON ({error})") from error
    if not isinstance(config, dict):
        raise WeightsError(f"{path}: is not a JSON object")
    for name, value in config.items():
        if not all(math.isfinite(number) for number in _numbers(value)):
            raise WeightsError(f"{path}: {name} contains a number that is not finite")
    return config


def _numbers(value: object) -> Iterable[float]:
    if isinstance(value, float):
        yield value
    elif isinstance(value, list):
        for item in value:
            yield from _numbers(item)
    elif isinstance(value, dict):
        yield from _numbers(list(value.values()))
