"""Train students and teachers. Names are imported on first use.

>>> from tsdsr.recipes import student_recipe, teacher_recipe
>>> from tsdsr.training import train_student, train_teacher
>>> teacher = train_teacher(teacher_recipe("mini_teacher"), "photos", "runs/teacher")
>>> student = train_student(student_recipe("mini_student"), "photos", "runs/student", teacher=teacher)
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from tsdsr.errors import require_torch

if TYPE_CHECKING:
    from tsdsr.training.config import NetworkSettings, Phase, Schedule, StudentConfig, TeacherConfig, TSDSettings
    from tsdsr.training.overrides import apply_overrides
    from tsdsr.training.run import measure_figures, train_student, train_teacher
    from tsdsr.training.weight_memory import estimate_memory

_EXPORTS = {
    "NetworkSettings": "tsdsr.training.config",
    "Phase": "tsdsr.training.config",
    "Schedule": "tsdsr.training.config",
    "StudentConfig": "tsdsr.training.config",
    "TSDSettings": "tsdsr.training.config",
    "TeacherConfig": "tsdsr.training.config",
    "apply_overrides": "tsdsr.training.overrides",
    "estimate_memory": "tsdsr.training.weight_memory",
    "measure_figures": "tsdsr.training.run",
    "train_student": "tsdsr.training.run",
    "train_teacher": "tsdsr.training.run",
}

__all__ = [
    "NetworkSettings",
    "Phase",
    "Schedule",
    "StudentConfig",
    "TSDSettings",
    "TeacherConfig",
    "apply_overrides",
    "estimate_memory",
    "measure_figures",
    "train_student",
    "train_teacher",
]


def __getattr__(name: str) -> object:
    if name in _EXPORTS:
        require_torch(f"tsdsr.training.{name}", "train")
        return getattr(import_module(_EXPORTS[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
