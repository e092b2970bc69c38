"""Training recipes as functions. Each says what it reproduces and which scores to expect."""

from __future__ import annotations

import difflib
import runpy
from collections.abc import Callable
from pathlib import Path
from types import MappingProxyType

from tsdsr.errors import ConfigError
from tsdsr.recipes.ablations import ABLATIONS, ablated
from tsdsr.recipes.flux2 import flux2_klein, flux2_klein_24gb, flux2_klein_teacher
from tsdsr.recipes.mini import (
    mini_camera,
    mini_smoke,
    mini_smoke_teacher,
    mini_student,
    mini_teacher,
    mini_v0,
    mini_v1,
    mini_v2,
)
from tsdsr.recipes.mini_crisp import (
    mini_crisp,
    mini_crisp_halved_sharpening,
    mini_crisp_second_order,
    mini_crisp_strong_blur,
)
from tsdsr.recipes.mini_large import mini_large, mini_v3, mini_wide_teacher
from tsdsr.recipes.mini_texture import (
    mini_restored,
    mini_settled,
    mini_texture,
    mini_texture_clean,
    mini_texture_long,
    mini_texture_mild,
    mini_texture_sharp,
    mini_vgg,
    mini_vgg_strong,
)
from tsdsr.recipes.stable_diffusion import sd2, sd3_24gb, sd3_gradual, sd3_paper, sd3_teacher, sd21, sd21_teacher
from tsdsr.training.config import RunConfig, StudentConfig, TeacherConfig

Recipe = Callable[[], RunConfig]

_STUDENTS = (
    mini_v0,
    mini_v1,
    mini_v2,
    mini_v3,
    mini_camera,
    mini_large,
    mini_crisp,
    mini_crisp_second_order,
    mini_crisp_halved_sharpening,
    mini_crisp_strong_blur,
    mini_vgg,
    mini_vgg_strong,
    mini_restored,
    mini_settled,
    mini_texture,
    mini_texture_clean,
    mini_texture_sharp,
    mini_texture_mild,
    mini_texture_long,
    mini_student,
    mini_smoke,
    sd3_paper,
    sd3_gradual,
    sd3_24gb,
    sd21,
    sd2,
    flux2_klein,
    flux2_klein_24gb,
)
_TEACHERS = (mini_teacher, mini_wide_teacher, mini_smoke_teacher, sd3_teacher, sd21_teacher, flux2_klein_teacher)

RECIPES: MappingProxyType[str, Recipe] = MappingProxyType(
    {recipe.__name__: recipe for recipe in (*_STUDENTS, *_TEACHERS)}
    | {f"{base.__name__}_{name}": ablated(base, name) for base in (sd3_paper, mini_student) for name in ABLATIONS}
)
"""All recipes by name; ``<recipe>_<ablation>`` for the ablations of the paper's tables 4 and 6."""


def get_recipe(name: str) -> RunConfig:
    """Return the configuration of a recipe.

    Args:
        name (str): key of :data:`RECIPES`, or ``FILE.py:FUNCTION`` for your own: a function without arguments
            that returns a :class:`~tsdsr.training.config.StudentConfig` or ``TeacherConfig``. The file is executed.

    Raises:
        ConfigError: unknown name, file or function, or the function fails or returns something else.
    """
    if not isinstance(name, str):
        raise ConfigError(f"the name of a recipe must be a string, got {type(name).__name__}")
    path, colon, function = name.rpartition(":")
    if colon and path.endswith(".py"):
        return _recipe_of_file(Path(path), function)
    if name.endswith(".py"):
        raise ConfigError(f"{name}: say which function of the file is the recipe: {name}:FUNCTION")
    if name not in RECIPES:
        near = difflib.get_close_matches(name.lower(), RECIPES, n=3)
        meant = f"did you mean {' or '.join(near)}? " if near else ""
        raise ConfigError(f"unknown recipe {name!r}; {meant}'tsdsr train list' lists all; or give FILE.py:FUNCTION")
    return RECIPES[name]()


def _recipe_of_file(path: Path, function: str) -> RunConfig:
    if not path.is_file():
        raise ConfigError(f"{path}: no such file; a recipe is given as FILE.py:FUNCTION")
    try:
        names = runpy.run_path(str(path))
    except (Exception, SystemExit) as error:  # the user's code may raise anything
        raise ConfigError(f"{path}: cannot be executed ({_described(error)})") from error
    if not callable(names.get(function)):
        raise ConfigError(f"{path}: has no function {function!r}")
    try:
        config = names[function]()
    except (Exception, SystemExit) as error:
        raise ConfigError(f"{path}: {function}() fails ({_described(error)})") from error
    if not isinstance(config, StudentConfig | TeacherConfig):
        raise ConfigError(f"{path}: {function}() returns {type(config).__name__}, not a StudentConfig or TeacherConfig")
    return config


def _described(error: BaseException) -> str:
    """Return type and message of an exception, on one line."""
    return " ".join(f"{type(error).__name__}: {error}".split())[:300]


def describe_recipes() -> dict[str, str]:
    """Return the first paragraph of each recipe's docstring, on one line, by name; code has single backticks."""
    first = {name: (recipe.__doc__ or "").split("\n\n")[0] for name, recipe in RECIPES.items()}
    return {name: " ".join(text.split()).replace("``", "`") for name, text in first.items()}


def student_recipe(name: str) -> StudentConfig:
    """Return the configuration of a student recipe.

    Raises:
        ConfigError: unknown name, or a teacher recipe.
    """
    config = get_recipe(name)
    if not isinstance(config, StudentConfig):
        raise ConfigError(f"{name!r} trains a teacher: use 'tsdsr train teacher'")
    return config


def teacher_recipe(name: str) -> TeacherConfig:
    """Return the configuration of a teacher recipe.

    Raises:
        ConfigError: unknown name, or a student recipe.
    """
    config = get_recipe(name)
    if not isinstance(config, TeacherConfig):
        raise ConfigError(f"{name!r} trains a student: use 'tsdsr train student'")
    return config
