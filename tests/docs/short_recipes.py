"""The recipes for training, with their steps, networks and crops made so small that a run takes a second."""

from __future__ import annotations

import dataclasses
import re
from types import MappingProxyType
from typing import Any

from tsdsr.models.zoo import get_spec
from tsdsr.recipes import RECIPES, Recipe
from tsdsr.training.config import RunConfig, StudentConfig, TeacherConfig

TINY_MINI: dict[str, Any] = {"channels": [8, 16, 16], "encoder_blocks": [1, 1, 1], "decoder_blocks": [1, 1]}


def shortened(config: RunConfig) -> RunConfig:
    """Return a recipe of few steps: two in its only phase, or one in each."""
    steps = 2 if len(config.phases) == 1 else 1
    is_mini = get_spec(config.networks.model).lora_targets is None or not config.networks.lora_rank
    edge = 32 if is_mini else 64
    networks = dataclasses.replace(
        config.networks,
        config=TINY_MINI if is_mini else {},
        lora_rank=None if is_mini else 2,
    )
    phases = [
        dataclasses.replace(phase, steps=steps, batch_size=1, warmup=0, **_without_perception(phase))
        for phase in config.phases
    ]
    shared: dict[str, Any] = {
        "phases": tuple(phases), "networks": networks, "accumulation": 1, "validation_share": 0.3,
        "validation_crop": 64, "log_every": 1,
    }  # fmt: skip
    if isinstance(config, TeacherConfig):
        return dataclasses.replace(config, crops=dataclasses.replace(config.crops, size=edge), **shared)
    assert isinstance(config, StudentConfig)
    pairs = dataclasses.replace(config.pairs, crops=dataclasses.replace(config.pairs.crops, size=edge))
    return dataclasses.replace(config, pairs=pairs, **shared)


def _without_perception(phase: Any) -> dict[str, Any]:
    """LPIPS and DISTS take seconds to load, and their weights are not everywhere."""
    return {"perceptual_weight": 0.0} if hasattr(phase, "perceptual_weight") else {}


def recipes_for(text: str) -> MappingProxyType[str, Recipe]:
    """Return all recipes for a command or snippet: short ones to train, as they are to tell about them."""
    if re.search(r"--dry-run|tsdsr train list", text):
        return RECIPES
    return MappingProxyType({name: _shortening(recipe) for name, recipe in RECIPES.items()})


def _shortening(recipe: Recipe) -> Recipe:
    return lambda: shortened(recipe())
