"""Training runs as functions. Each names what it reproduces and the scores to expect."""

from __future__ import annotations

from collections.abc import Callable
from types import MappingProxyType

from tsdsr.errors import ConfigError
from tsdsr.recipes.mini import mini_smoke, mini_v0
from tsdsr.training.config import StudentConfig

RECIPES: MappingProxyType[str, Callable[[], StudentConfig]] = MappingProxyType(
    {recipe.__name__: recipe for recipe in (mini_v0, mini_smoke)}
)
"""Every recipe by name."""


def get_recipe(name: str) -> StudentConfig:
    """The configuration of a recipe.

    Raises:
        ConfigError: unknown name.
    """
    if name not in RECIPES:
        raise ConfigError(f"unknown recipe {name!r}; known: {', '.join(RECIPES)}")
    return RECIPES[name]()
