"""Every field of every settings class refuses what its annotation does not allow."""

from __future__ import annotations

import dataclasses
import math
import types
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import pytest

from tsdsr.errors import ConfigError
from tsdsr.field_checks import Between, Count, Positive, Probability, _hints, check_fields, from_plain
from tsdsr.recipes import RECIPES, get_recipe
from tsdsr.training.config import StudentConfig, TeacherConfig


def reachable(kind: Any) -> Iterator[type]:
    """Every dataclass in an annotation, and in the annotations of its fields."""
    if isinstance(kind, type) and dataclasses.is_dataclass(kind):
        yield kind
        for inner in _hints(kind).values():
            yield from reachable(inner)
    for part in get_args(kind):
        if part is not Ellipsis:
            yield from reachable(part)


CLASSES = sorted({*reachable(StudentConfig), *reachable(TeacherConfig)}, key=lambda c: c.__name__)


def instances(value: Any) -> Iterator[Any]:
    """Every settings object in a value."""
    if dataclasses.is_dataclass(value):
        yield value
        for f in dataclasses.fields(value):
            yield from instances(getattr(value, f.name))
    elif isinstance(value, tuple):
        for element in value:
            yield from instances(element)


EXAMPLES = {type(i): i for name in RECIPES for i in instances(get_recipe(name))}
"""Settings class → settings that some recipe has."""


def literals(kind: Any) -> bool:
    """Whether an annotation holds a ``Literal`` anywhere."""
    return get_origin(kind) is Literal or any(literals(p) for p in get_args(kind) if get_origin(kind) is not Literal)


def numbers(kind: Any) -> bool:
    """Whether an annotation allows a number by itself."""
    if get_origin(kind) is Annotated:
        kind = get_args(kind)[0]
    if get_origin(kind) in (Union, types.UnionType):
        return any(numbers(part) for part in get_args(kind))
    return kind in (int, float)


def spoiled(kind: Any, value: Any) -> Any:
    """The value with one of its literals replaced by an unknown word."""
    if get_origin(kind) is Literal:
        return "nonsense"
    kinds = get_args(kind)
    if kinds[-1] is Ellipsis:
        return (spoiled(kinds[0], value[0]), *value[1:])
    at = next(i for i, k in enumerate(kinds) if literals(k))
    return tuple(spoiled(k, v) if i == at else v for i, (k, v) in enumerate(zip(kinds, value, strict=True)))


def fields(test: Any) -> list[Any]:
    found = [(c, name) for c in CLASSES for name, kind in _hints(c).items() if test(kind)]
    return [pytest.param(c, name, id=f"{c.__name__}.{name}") for c, name in found]


def test_every_settings_class_occurs_in_a_recipe_or_has_defaults() -> None:
    for settings in CLASSES:
        assert settings in EXAMPLES or settings(), (
            f"{settings.__name__}: give its fields defaults, or use it in a recipe"
        )
    assert len(CLASSES) > 10


def replaced(settings: type, name: str, value: Any) -> None:
    example = EXAMPLES.get(settings) or settings()
    dataclasses.replace(example, **{name: value})


@pytest.mark.parametrize(("settings", "name"), fields(literals))
def test_an_unknown_choice_is_refused_at_construction(settings: type, name: str) -> None:
    example = EXAMPLES.get(settings) or settings()
    wrong = spoiled(_hints(settings)[name], getattr(example, name))
    with pytest.raises(ConfigError, match=f"{name} must be .*one of "):
        replaced(settings, name, wrong)


@pytest.mark.parametrize(("settings", "name"), fields(numbers))
@pytest.mark.parametrize("wrong", [math.nan, math.inf, "many", True])
def test_what_is_no_finite_number_is_refused(settings: type, name: str, wrong: Any) -> None:
    with pytest.raises(ConfigError, match=f"{name} must be "):
        replaced(settings, name, wrong)


@pytest.mark.parametrize(("settings", "name"), fields(lambda kind: kind is not Any))
def test_a_wrong_kind_is_refused(settings: type, name: str) -> None:
    with pytest.raises(ConfigError, match=f"{name} must be "):
        replaced(settings, name, object())


@dataclass(frozen=True)
class Small:
    name: Literal["a", "b"] = "a"
    count: Count = 1
    share: Probability = 0.5
    pair: tuple[Positive, Positive] = (1.0, 2.0)
    optional: Annotated[float, Between(0, 1, open_high=True)] | None = None

    def __post_init__(self) -> None:
        check_fields(self)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"name": "c"}, "name must be one of 'a', 'b', got 'c'"),
        ({"count": 0}, "count must be a whole number of at least 1 and at most 2,147,483,647, got 0"),
        ({"count": 1.0}, "count must be a whole number"),
        ({"share": 1.1}, r"share must be a finite number in \[0, 1\], got 1.1"),
        ({"pair": (1.0, 0.0)}, "pair must be a list of 2: each a finite number above 0"),
        ({"pair": (1.0,)}, "a list of 2"),
        ({"optional": 1}, r"optional must be a finite number in \[0, 1\) or null, got 1"),
    ],
)
def test_messages_name_the_field_and_what_it_allows(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Small(**change)


def test_json_becomes_settings() -> None:
    plain = {"name": "b", "count": 2, "share": 1, "pair": [1, 3], "optional": None}
    assert from_plain(Small, plain) == Small("b", 2, 1, (1, 3))
    assert from_plain(tuple[Small, ...], [plain, plain])[1].pair == (1, 3)
    with pytest.raises(ConfigError, match="no known version"):
        from_plain(Small, {"name": "b"})
    with pytest.raises(ConfigError, match="pair must be"):
        from_plain(Small, plain | {"pair": [1, 2, 3]})
