"""Changes to a recipe from the command line: ``phases.0.steps=100``."""

from __future__ import annotations

import dataclasses
import json
from typing import Any, TypeVar

from tsdsr.errors import ConfigError

C = TypeVar("C")


def apply_overrides(config: C, assignments: list[str]) -> C:
    """A copy of a nested configuration with some values replaced; every level checks itself again.

    Args:
        config (dataclass): frozen, may hold dataclasses, tuples and dicts.
        assignments (list of str): ``path.to.field=value``; numbers count the elements of tuples, values are JSON, or
            plain text where they are not.

    Raises:
        ConfigError: a path leads nowhere, a value has the wrong kind, or the result contradicts itself.
    """
    for assignment in assignments:
        path, equals, text = assignment.partition("=")
        if not equals:
            raise ConfigError(f"--set {assignment}: write PATH=VALUE, for example phases.0.steps=100")
        try:
            value = json.loads(text)
        except ValueError:
            value = text
        config = _replaced(config, path.split("."), value, path)
    return config


def _replaced(node: Any, keys: list[str], value: Any, path: str) -> Any:
    if not keys:
        return _like(node, value, path)
    key, rest = keys[0], keys[1:]
    if dataclasses.is_dataclass(node) and not isinstance(node, type):
        names = [f.name for f in dataclasses.fields(node)]
        if key not in names:
            raise ConfigError(f"--set {path}: {type(node).__name__} has no {key!r}; it has {', '.join(names)}")
        return dataclasses.replace(node, **{key: _replaced(getattr(node, key), rest, value, path)})
    if isinstance(node, tuple):
        if not key.isdigit() or int(key) >= len(node):
            raise ConfigError(f"--set {path}: {key!r} is not one of the {len(node)} elements, counted from 0")
        index = int(key)
        return (*node[:index], _replaced(node[index], rest, value, path), *node[index + 1 :])
    if isinstance(node, dict):
        return {**node, key: _replaced(node[key], rest, value, path) if rest else value}
    raise ConfigError(f"--set {path}: there is nothing below {key!r}")


def _like(old: Any, new: Any, path: str) -> Any:
    """The new value in the kind the old one has: whole numbers serve as floats, lists as tuples."""
    if isinstance(new, list):
        new = tuple(_like(None, v, path) for v in new)
    if dataclasses.is_dataclass(old) and new is not None:
        raise ConfigError(f"--set {path}: is a group of settings; set one of them, or null to leave it out")
    if isinstance(old, bool) != isinstance(new, bool) and old is not None:
        raise ConfigError(f"--set {path}: expected a value like {old!r}, got {new!r}")
    if isinstance(old, int) and not isinstance(old, bool) and isinstance(new, str):
        raise ConfigError(f"--set {path}: expected a number, got {new!r}")
    if isinstance(old, str) and not isinstance(new, str):
        raise ConfigError(f"--set {path}: expected text, got {new!r}")
    if isinstance(old, float) and isinstance(new, str):
        raise ConfigError(f"--set {path}: expected a number, got {new!r}")
    return new
