"""Changes to a recipe from the command line: ``phases.0.steps=100``."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from typing import Any, TypeVar

from tsdsr.errors import ConfigError
from tsdsr.wording import counted

C = TypeVar("C")
_Change = tuple[list[str], Any]
"""The remaining keys of a path, and the value."""


def apply_overrides(config: C, assignments: Sequence[str]) -> C:
    """Copy a nested configuration with some values replaced; every level is validated again.

    Args:
        config (dataclass): frozen, may hold dataclasses, tuples and dicts.
        assignments (sequence of str): ``path.to.field=value``; numbers index tuples; values are JSON, or else plain
            text. If a path occurs more than once, the last value wins.

    Raises:
        ConfigError: a path does not exist or lies below another one, or a value is invalid; the message begins with
            the path.
    """
    changes: dict[str, Any] = {}
    for assignment in assignments:
        path, equals, text = assignment.partition("=")
        if not equals:
            raise ConfigError(f"--set {assignment}: write PATH=VALUE, for example phases.0.steps=100")
        for other in changes:
            if path.startswith(other + ".") or other.startswith(path + "."):
                raise ConfigError(f"--set {path}: is set twice, also by --set {other}; give it once")
        try:
            value = json.loads(text)
        except (ValueError, RecursionError):
            value = text
        changes[path] = _as_tuple(value)
    changed: C = _changed(config, [(path.split("."), value) for path, value in changes.items()], "")
    return changed


def _changed(node: Any, changes: list[_Change], path: str) -> Any:
    """Apply all changes of a level at once, so that it is validated once and their order does not matter."""
    if not changes:
        return node
    below: dict[str, list[_Change]] = {}
    for keys, value in changes:
        if not keys:
            return value
        below.setdefault(keys[0], []).append((keys[1:], value))
    inside = {key: f"{path}.{key}".lstrip(".") for key in below}
    if dataclasses.is_dataclass(node) and not isinstance(node, type):
        names = [f.name for f in dataclasses.fields(node)]
        for key in below:
            if key not in names:
                raise ConfigError(f"--set {inside[key]}: no {key!r} in {type(node).__name__}, only {', '.join(names)}")
        changed = {key: _changed(getattr(node, key), below[key], inside[key]) for key in below}
        try:
            return dataclasses.replace(node, **changed)
        except ConfigError as error:
            where = next(iter(inside.values())) if len(inside) == 1 else path or ", ".join(inside)
            raise ConfigError(f"--set {where}: {error}") from error
    if isinstance(node, tuple):
        for key in below:
            if key not in map(str, range(len(node))):
                raise ConfigError(
                    f"--set {inside[key]}: {key!r} is not one of {counted(len(node), 'element')}, counted from 0"
                )
        return tuple(_changed(e, below.get(str(i), []), inside.get(str(i), "")) for i, e in enumerate(node))
    if isinstance(node, dict):
        return {**node, **{key: _changed(node.get(key), below[key], inside[key]) for key in below}}
    raise ConfigError(f"--set {next(iter(inside.values()))}: there is nothing below {path}")


def _as_tuple(value: Any) -> Any:
    return tuple(_as_tuple(v) for v in value) if isinstance(value, list) else value
