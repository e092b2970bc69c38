"""Check settings dataclasses against their annotations, and build settings from plain JSON values.

The type of a field defines its allowed values: ``Literal["a", "b"]``, ``Probability``, ``tuple[Positive, Positive]``.
One call of :func:`check_fields` in ``__post_init__`` checks all fields, so none can be forgotten.
"""

from __future__ import annotations

import dataclasses
import math
import sys
import types
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

from tsdsr.errors import ConfigError

_LARGEST = 2**31 - 1


@dataclass(frozen=True)
class Between:
    """Allowed range of a number; used in ``Annotated``.

    Attributes:
        low, high (float): bounds; infinity means no bound.
        open_low, open_high (bool): whether the bound itself is excluded.
    """

    low: float
    high: float = math.inf
    open_low: bool = False
    open_high: bool = False

    def __contains__(self, value: float) -> bool:
        above = value > self.low if self.open_low else value >= self.low
        return above and (value < self.high if self.open_high else value <= self.high)

    def __str__(self) -> str:
        if self.high == math.inf:
            return f"{'above' if self.open_low else 'of at least'} {self.low:g}"
        if self.high >= _LARGEST:
            return f"of at least {self.low:g} and at most {self.high:,}"
        return f"in {'(' if self.open_low else '['}{self.low:g}, {self.high:g}{')' if self.open_high else ']'}"


Probability = Annotated[float, Between(0, 1)]
NonNegative = Annotated[float, Between(0)]
Positive = Annotated[float, Between(0, open_low=True)]
Count = Annotated[int, Between(1, _LARGEST)]
CountOrZero = Annotated[int, Between(0, _LARGEST)]
Seed = Annotated[int, Between(0, 2**32 - 1)]
"""A seed that NumPy's and torch's generators take."""

_NAMES: dict[Any, str] = {
    bool: "true or false",
    int: "a whole number",
    float: "a finite number",
    str: "a text",
    type(None): "null",
    Any: "anything",
}


def check_fields(settings: Any) -> None:
    """Check every field of a dataclass against its annotation.

    Raises:
        ConfigError: a value is not allowed; the message names the field and the allowed values.
    """
    for name, kind in _hints(settings.__class__).items():
        value = getattr(settings, name)
        if not _fits(kind, value):
            hint = "; in Python, write a list as a tuple" if isinstance(value, list) and tuple in _origins(kind) else ""
            raise ConfigError(f"{name} must be {describe_kind(kind)}, got {shown(value)}{hint}")


def shown(value: Any) -> str:
    """Return a value as it is shown in messages, on one line and cut to 100 characters."""
    try:
        text = " ".join(repr(value).split())
    except ValueError:  # Python converts no whole number with thousands of digits
        text = "a number with thousands of digits"
    return text if len(text) < 100 else f"{text[:100]}…"


def _origins(kind: Any) -> list[Any]:
    """Return the generic types that a setting may have: ``tuple`` for a list."""
    choices = get_args(kind) if get_origin(kind) in (Union, types.UnionType) else (kind,)
    return [get_origin(choice) for choice in choices]


def from_plain(kind: Any, value: Any, where: str = "") -> Any:
    """Build a setting from JSON values: lists become tuples, objects become dataclasses.

    Args:
        kind: annotation of the setting, or a dataclass.
        value: numbers, texts, lists and dicts, as returned by ``json.loads``.
        where (str): path of the setting, for messages.

    Raises:
        ConfigError: an object's fields match no dataclass that ``kind`` allows, or a value is not allowed.
    """
    if get_origin(kind) is Annotated:
        kind = get_args(kind)[0]
    choices = get_args(kind) if get_origin(kind) in (Union, types.UnionType) else (kind,)
    if isinstance(value, list):
        for choice in choices:
            if get_origin(choice) is tuple:
                kinds = enumerate(_element_kinds(choice, len(value)))
                return tuple(from_plain(k, value[i], f"{where}.{i}") for i, k in kinds)
    if isinstance(value, dict):
        classes = [c for c in choices if isinstance(c, type) and dataclasses.is_dataclass(c)]
        for found in classes:
            hints = _hints(found)
            if hints.keys() == value.keys():
                return found(**{k: from_plain(hints[k], v, f"{where}.{k}".lstrip(".")) for k, v in value.items()})
        if classes:
            raise ConfigError(f"{where or 'settings'}: fields {sorted(value)} belong to no known version")
    return value


@lru_cache(maxsize=64)
def _hints(settings: Any) -> dict[str, Any]:
    hints = get_type_hints(settings, include_extras=True)
    return {f.name: hints[f.name] for f in dataclasses.fields(settings) if f.init}


def _element_kinds(kind: Any, length: int) -> tuple[Any, ...]:
    """Return the annotations of a tuple's elements; ``Any`` if the length differs, which fails its check later."""
    kinds = get_args(kind)
    if len(kinds) == 2 and kinds[1] is Ellipsis:
        return (kinds[0],) * length
    return kinds if len(kinds) == length else (Any,) * length


def _fits(kind: Any, value: Any) -> bool:
    origin = get_origin(kind)
    if kind is Any:
        return True
    if origin is Annotated:
        base, *ranges = get_args(kind)
        return _fits(base, value) and all(value in r for r in ranges)
    if origin is Literal:
        return any(type(value) is type(choice) and value == choice for choice in get_args(kind))
    if origin in (Union, types.UnionType):
        return any(_fits(choice, value) for choice in get_args(kind))
    if origin is tuple:
        kinds = get_args(kind)
        if not isinstance(value, tuple) or (kinds[-1] is not Ellipsis and len(kinds) != len(value)):
            return False
        return all(_fits(k, v) for k, v in zip(_element_kinds(kind, len(value)), value, strict=True))
    if origin in (dict, Mapping):
        key, inner = get_args(kind)
        return isinstance(value, Mapping) and all(_fits(key, k) and _fits(inner, v) for k, v in value.items())
    if kind is float:
        return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= sys.float_info.max
    if kind is int:
        return isinstance(value, int) and not isinstance(value, bool)
    return isinstance(value, kind)


def describe_kind(kind: Any) -> str:
    """Describe in words what values an annotation allows."""
    origin, parts = get_origin(kind), get_args(kind)
    if origin is Annotated:
        name = "a whole number" if parts[0] is int else "a finite number"
        return f"{name} {' and '.join(str(r) for r in parts[1:])}"
    if origin is Literal:
        return "one of " + ", ".join(repr(choice) for choice in parts)
    if origin in (Union, types.UnionType):
        return " or ".join(describe_kind(part) for part in parts)
    if origin is tuple and parts[-1] is Ellipsis:
        return f"a list, each {describe_kind(parts[0])}"
    if origin is tuple:
        each = [f"each {describe_kind(parts[0])}"] if len(set(parts)) == 1 else [describe_kind(part) for part in parts]
        return f"a list of {len(parts)}: {'; '.join(each)}"
    if origin in (dict, Mapping):
        return "a group of named values"
    if isinstance(kind, type) and dataclasses.is_dataclass(kind):
        return f"a group of settings ({kind.__name__})"
    return _NAMES.get(kind, getattr(kind, "__name__", str(kind)))
