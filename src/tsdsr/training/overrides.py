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
    changes: list[_Change] = []
    for assignment in assignments:
        path, equals, text = assignment.partition("=")
        if not equals:
            raise ConfigError(f"--set {assignment}: write PATH=VALUE, for example phases.0.steps=100")
        try:
            value = json.loads(text)
        except ValueError:
            value = text
        changes.append((path, path.split("."), value))
    changed: C = _changed(config, changes)
    return changed


_Change = tuple[str, list[str], Any]
"""The path as written, the keys that are left of it, the value."""


def _changed(node: Any, changes: list[_Change]) -> Any:
    """All changes of a level at once, so that it is checked when they are all made and their order does not matter."""
    if not changes:
        return node
    for path, keys, value in changes:
        if not keys:
            return _like(node, value, path)
    below: dict[str, list[_Change]] = {}
    for path, keys, value in changes:
        below.setdefault(keys[0], []).append((path, keys[1:], value))
    path = changes[0][0]
    if dataclasses.is_dataclass(node) and not isinstance(node, type):
        names = [f.name for f in dataclasses.fields(node)]
        for key, of_key in below.items():
            if key not in names:
                raise ConfigError(f"--set {of_key[0][0]}: no {key!r} in {type(node).__name__}, only {', '.join(names)}")
        changed = {key: _changed(getattr(node, key), of_key) for key, of_key in below.items()}
        try:
            return dataclasses.replace(node, **changed)
        except TypeError as error:  # a check met a value of another kind than it compares with
            raise ConfigError(f"--set {path}: a value is of the wrong kind ({error})") from error
    if isinstance(node, tuple):
        for key, of_key in below.items():
            if not key.isdigit() or int(key) >= len(node):
                raise ConfigError(f"--set {of_key[0][0]}: {key!r} is not one of {len(node)} elements, counted from 0")
        return tuple(_changed(element, below.get(str(i), [])) for i, element in enumerate(node))
    if isinstance(node, dict):
        return {**node, **{key: _changed(node.get(key), c) for key, c in below.items()}}
    raise ConfigError(f"--set {path}: there is nothing below it")


def _like(old: Any, new: Any, path: str) -> Any:
    """The new value if it is of the old one's kind: whole numbers serve as floats, lists as tuples or as pairs."""
    if isinstance(new, list):
        new = tuple(_like(None, v, path) for v in new)
    if old is None or new is None:
        return new
    if dataclasses.is_dataclass(old):
        raise ConfigError(f"--set {path}: is a group of settings; set one of them, or null to leave it out")
    if isinstance(old, bool) != isinstance(new, bool) or isinstance(old, str) != isinstance(new, str):
        raise ConfigError(f"--set {path}: expected a value like {old!r}, got {new!r}")
    return new
