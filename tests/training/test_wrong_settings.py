"""Every field of every settings class meets a table of wrong values: it refuses each, or the value has a meaning."""

from __future__ import annotations

import dataclasses
import math
import types
from collections.abc import Iterator
from typing import Annotated, Any, Union, get_args, get_origin

import pytest

from tests.training.tiny import NETWORK, config
from tsdsr.data.camera import CameraDegradation
from tsdsr.data.degradation_presets import PRESETS
from tsdsr.data.first_order import FirstOrderDegradation
from tsdsr.errors import ConfigError
from tsdsr.field_checks import _hints
from tsdsr.recipes import student_recipe, teacher_recipe
from tsdsr.training.config import NetworkSettings, TSDSettings
from tsdsr.training.overrides import apply_overrides
from tsdsr.training.stored_config import config_from_json
from tsdsr.training.weight_memory import networks_without_storage

STUDENT, TEACHER = student_recipe("mini_student"), teacher_recipe("mini_teacher")
SETTINGS: list[Any] = [
    STUDENT,
    TEACHER,
    STUDENT.phases[1],
    TEACHER.phases[0],
    TSDSettings(),
    NetworkSettings(),
    NetworkSettings(model="sd3", lora_rank=4),
    STUDENT.pairs,
    STUDENT.pairs.crops,
    FirstOrderDegradation(),
    CameraDegradation(),
    PRESETS["osediff"],
]
FIELDS = [
    pytest.param(settings, field.name, id=f"{number}-{type(settings).__name__}.{field.name}")
    for number, settings in enumerate(SETTINGS)
    for field in dataclasses.fields(settings)
]
NEVER = [
    math.nan, math.inf, -math.inf, -1, -1.5, 10**400, 10**5000, "", "nonsense", b"bytes", object(), int, [0.1, 0.2],
    (math.nan, math.nan), (math.inf, 0.0), (-1.0, -1.0), (True, True), (1, 2, 3, 4, 5), ("a", 1), ((1,),),
    {"nonsense": 1},
]  # fmt: skip
"""Values that no setting takes."""


def kinds(annotation: Any) -> Iterator[Any]:
    """The types that an annotation allows by itself, not inside a list."""
    if get_origin(annotation) is Annotated:
        annotation = get_args(annotation)[0]
    if get_origin(annotation) in (Union, types.UnionType):
        for part in get_args(annotation):
            yield from kinds(part)
    else:
        yield get_origin(annotation) or annotation


@pytest.mark.parametrize(("settings", "name"), FIELDS)
def test_wrong_values_are_refused_by_name(settings: Any, name: str) -> None:
    for value in NEVER:
        with pytest.raises(ConfigError, match=rf"\b{name}\b") as found:
            dataclasses.replace(settings, **{name: value})
        assert len(str(found.value)) < 500
        assert "\n" not in str(found.value)


@pytest.mark.parametrize(("settings", "name"), FIELDS)
def test_odd_values_are_taken_only_where_they_have_a_meaning(settings: Any, name: str) -> None:
    allowed = set(kinds(_hints(type(settings))[name]))
    meanings: list[tuple[Any, bool]] = [
        (None, type(None) in allowed),
        (True, bool in allowed),
        ((), name in ("others", "fake_targets") and not getattr(settings, "lora_rank", None)),
        ({}, dict in allowed),
        (2**31, (float in allowed and int not in allowed) or name == "seed"),
        (2**32, float in allowed and int not in allowed),
    ]
    for value, fits in meanings:
        try:
            changed = dataclasses.replace(settings, **{name: value})
        except ConfigError:
            assert not fits or not isinstance(value, dict | tuple | bool | None), (name, value)
        else:
            assert fits, (name, value)
            assert getattr(changed, name) == value


@pytest.mark.parametrize("name", ["channels", "encoder_blocks", "decoder_blocks", "embed_dim", "num_prompts"])
@pytest.mark.parametrize("value", [None, math.nan, -1, 0, 2**40, 1.5, "x", (), (8, -16, 16), (8.0, 16.0), {}, True])
def test_arguments_of_a_network_are_checked(name: str, value: Any) -> None:
    with pytest.raises(ConfigError, match=rf"config.{name} must be|cannot be built"):
        networks_without_storage(config(networks=NetworkSettings(config={**NETWORK, name: value})))


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ({"in_channels": 3}, "config has no 'in_channels'"),
        ({"num_prompts": 1}, "config.num_prompts must be at least 2, got 1"),
        ({"learned_skip": 1}, "config.learned_skip must be true or false, got 1"),
        ({"fine_blocks": "many"}, "config.fine_blocks must be a whole number of at least 1, got 'many'"),
        ({"channels": (8, 16)}, "mini cannot be built with it"),
        ({"foo": 1}, "config has no 'foo'; mini's network takes channels"),
    ],
)
def test_messages_about_arguments_of_a_network(argument: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        networks_without_storage(config(networks=NetworkSettings(config={**NETWORK, **argument})))


@pytest.mark.parametrize(
    "assignment",
    [
        "", "=", "=1", ".=1", "seed.=1", ".seed=1", "phases..steps=1", "phases.-1.steps=1", "phases.²=1", "phases.٣=1",
        "phases=null", "phases=[]", "phases=[{}]", "phases.0={}", "phases.0.tsd={}", "pairs=1", "networks={}",
        "seed=1e400",
        "seed=" + "9" * 5000, "seed=" + "[" * 100_000, "seed=4294967296", "phases.0.lr=[NaN,NaN]", "phases.0.lr.0=null",
        "betas=[2,3]", "betas=null", "networks.config=null", "networks.config.foo=1", "networks.config.channels.0=x",
        "phases.0.steps=99999999999999999999",
    ],
)  # fmt: skip
def test_wrong_assignments_are_one_typed_sentence(assignment: str) -> None:
    with pytest.raises(ConfigError) as found:
        apply_overrides(STUDENT, [assignment])
    assert "\n" not in str(found.value)


def test_a_list_given_in_python_is_explained() -> None:
    with pytest.raises(ConfigError, match="in Python, write a list as a tuple"):
        dataclasses.replace(STUDENT, betas=[0.9, 0.99])  # type: ignore[arg-type]


def test_the_largest_seed_is_taken() -> None:
    largest = dataclasses.replace(STUDENT, seed=2**32 - 1)
    assert config_from_json(largest.to_json()).seed == 2**32 - 1
