"""Settings of a training run as they are stored in its checkpoints."""

from __future__ import annotations

import json
from typing import Any

from tsdsr.field_checks import from_plain
from tsdsr.training.config import StudentConfig, TeacherConfig


def settings_from_json(text: str) -> dict[str, Any]:
    """Parse what :meth:`~tsdsr.training.config.RunConfig.to_json` writes; add what older versions lack."""
    settings: dict[str, Any] = json.loads(text)
    settings.get("pairs", settings).get("crops", {}).setdefault("fixed", 0)
    return settings


def config_from_json(text: str) -> StudentConfig | TeacherConfig:
    """Parse settings written by :meth:`~tsdsr.training.config.RunConfig.to_json`.

    Raises:
        ConfigError: the settings are from another version or contradict each other.
    """
    config: StudentConfig | TeacherConfig = from_plain(StudentConfig | TeacherConfig, settings_from_json(text))
    return config
