"""Changes to a recipe from the command line."""

from __future__ import annotations

import pytest

from tests.training.tiny import config
from tsdsr.errors import ConfigError
from tsdsr.recipes import get_recipe
from tsdsr.training.config import StudentConfig
from tsdsr.training.overrides import apply_overrides


def test_overrides_reach_every_depth() -> None:
    base = config()
    changed = apply_overrides(
        base,
        ["seed=7", "phases.1.tsd.points=4", "phases.1.tsd.lambda_vsd=[0, 0.7]", "pairs.crops.size=64",
         "networks.config.embed_dim=32", "phases.0.tsd=null"],
    )  # fmt: skip
    assert isinstance(changed, StudentConfig)
    assert changed.seed == 7
    assert changed.phases[1].tsd is not None
    assert changed.phases[1].tsd.points == 4
    assert changed.phases[1].tsd.lambda_vsd == (0, 0.7)
    assert changed.pairs.crops.size == 64
    assert changed.networks.config["embed_dim"] == 32
    assert base.seed == 0
    assert "embed_dim" not in base.networks.config


@pytest.mark.parametrize(
    ("assignment", "message"),
    [
        ("seed", "PATH=VALUE"),
        ("sed=1", "no 'sed' in StudentConfig"),
        ("phases.9.steps=1", "counted from 0"),
        ("phases.00.steps=1", "counted from 0"),
        (
            "phases.0.steps=many",
            "phases.0.steps: steps must be a whole number of at least 1 and at most 2,147,483,647, got 'many'",
        ),
        ("phases.0.steps=2.5", "a whole number"),
        ("phases.0.steps=[1, 2]", "a whole number"),
        ("phases.0.steps=true", "a whole number"),
        ("phases.0.lr=0.001", "lr must be a list of 2: each a finite number"),
        ("phases.0.lr.1=NaN", "lr must be a list of 2: each a finite number"),
        ("phases.0.lr=[-1e-3, 0]", "at least 0"),
        ("phases.0.l1_weight=Infinity", "l1_weight must be a finite number"),
        ("phases.0.steps=0", "of at least 1"),
        ("phases.0=null", r"phases must be a list, each a group of settings \(Phase\)"),
        ("phases.1.tsd=3", r"a group of settings \(TSDSettings\) or null"),
        ("phases.1.tsd.omega=foo", "phases.1.tsd.omega: omega must be one of 'sigma2', 'one', 'snr', got 'foo'"),
        ("phases.1.tsd.space=foo", "space must be one of 'native', 'eps'"),
        ("networks.base_precision=int8", "base_precision must be one of 'fp32', 'bf16', 'fp16', got 'int8'"),
        ("seed.x=1", "nothing below"),
        ("networks.model=3", "a text"),
        ("networks.config.chanels=3", "config has no 'chanels'"),
        ("pairs.crops.flip=1", "true or false"),
        ("pairs.crops.size=100", "pairs.crops.size must be a multiple of 16"),
        ("pairs.degradation.blur_prob=1.5", r"blur_prob must be a finite number in \[0, 1\]"),
        ("ema_decay=high", "ema_decay must be a finite number"),
    ],
)
def test_wrong_overrides_are_explained(assignment: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        apply_overrides(config(), [assignment])


def test_the_last_value_of_a_setting_wins() -> None:
    assert apply_overrides(config(), ["seed=1", "seed=2"]).seed == 2
    assert apply_overrides(config(), ["seed=2", "seed=1"]).seed == 1


@pytest.mark.parametrize(
    "assignments", [["phases.1.tsd.points=8", "phases.1.tsd=null"], ["phases=[]", "phases.0.steps=1"]]
)
def test_a_setting_and_a_part_of_it_are_refused_together(assignments: list[str]) -> None:
    with pytest.raises(ConfigError, match="set twice"):
        apply_overrides(config(), assignments)


def test_settings_that_contradict_each_other_are_checked_together() -> None:
    changed = apply_overrides(get_recipe("mini_student"), ["phases.0.steps=5", "phases.0.warmup=0"])
    assert changed.phases[0].steps == 5
    with pytest.raises(ConfigError, match="warmup must lie within"):
        apply_overrides(get_recipe("mini_student"), ["phases.0.steps=5"])
