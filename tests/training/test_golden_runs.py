"""Regression test of every kind of recipe: metrics and weights of ten steps against stored ones.

These runs guard how the trainer is put together: a loss left out, a wrong sign, factor, role, prompt or stream of
randomness moves a figure. How the stored values are made and remade stands in :mod:`tests.training.golden_runs`.
"""

from __future__ import annotations

import json

import pytest

from tests.training.golden_runs import CONFIGS, FILE, TOLERANCE, deviations, measure

EXPECTED = json.loads(FILE.read_text())


def test_every_run_is_stored() -> None:
    assert EXPECTED.keys() == CONFIGS.keys()


@pytest.mark.parametrize("name", CONFIGS)
def test_ten_steps_give_what_they_gave(name: str) -> None:
    found = measure(name)
    far = {key: value for key, value in deviations(EXPECTED[name], found).items() if not value <= TOLERANCE}
    assert far == {}, f"relative deviations above {TOLERANCE}"
