"""Training runs as functions. Each names what it reproduces and the scores to expect."""

from __future__ import annotations

from collections.abc import Callable
from types import MappingProxyType

from tsdsr.errors import ConfigError
from tsdsr.recipes.ablations import ABLATIONS, ablated
from tsdsr.recipes.mini import (
    mini_adversarial,
    mini_camera,
    mini_camera_tsd,
    mini_fine,
    mini_sensor,
    mini_smoke,
    mini_smoke_teacher,
    mini_student,
    mini_teacher,
    mini_twin,
    mini_v0,
    mini_v1,
    mini_v2,
)
from tsdsr.recipes.mini_large import mini_large, mini_large_both, mini_v3, mini_wide_teacher
from tsdsr.recipes.stable_diffusion import sd2, sd3_24gb, sd3_paper, sd3_teacher, sd21, sd21_teacher
from tsdsr.training.config import RunConfig, StudentConfig, TeacherConfig

Recipe = Callable[[], RunConfig]

_STUDENTS = (
    mini_v0,
    mini_v1,
    mini_v2,
    mini_v3,
    mini_adversarial,
    mini_camera,
    mini_camera_tsd,
    mini_fine,
    mini_large,
    mini_large_both,
    mini_sensor,
    mini_twin,
    mini_student,
    mini_smoke,
    sd3_paper,
    sd3_24gb,
    sd21,
    sd2,
)
_TEACHERS = (mini_teacher, mini_wide_teacher, mini_smoke_teacher, sd3_teacher, sd21_teacher)

RECIPES: MappingProxyType[str, Recipe] = MappingProxyType(
    {recipe.__name__: recipe for recipe in (*_STUDENTS, *_TEACHERS)}
    | {f"{base.__name__}_{name}": ablated(base, name) for base in (sd3_paper, mini_student) for name in ABLATIONS}
)
"""Every recipe by name; ``<recipe>_<ablation>`` for those of the paper's tables 4 and 6."""


def get_recipe(name: str) -> RunConfig:
    """The configuration of a recipe.

    Raises:
        ConfigError: unknown name.
    """
    if name not in RECIPES:
        raise ConfigError(f"unknown recipe {name!r}; known: {', '.join(RECIPES)}")
    return RECIPES[name]()


def student_recipe(name: str) -> StudentConfig:
    """The configuration of a student's recipe.

    Raises:
        ConfigError: unknown name, or a teacher's recipe.
    """
    config = get_recipe(name)
    if not isinstance(config, StudentConfig):
        raise ConfigError(f"{name!r} trains a teacher: use 'tsdsr train teacher'")
    return config


def teacher_recipe(name: str) -> TeacherConfig:
    """The configuration of a teacher's recipe.

    Raises:
        ConfigError: unknown name, or a student's recipe.
    """
    config = get_recipe(name)
    if not isinstance(config, TeacherConfig):
        raise ConfigError(f"{name!r} trains a student: use 'tsdsr train student'")
    return config
