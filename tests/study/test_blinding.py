"""Order, positions and addresses: fixed within a session, uniform over sessions, and revealing nothing."""

from __future__ import annotations

import dataclasses
from collections import Counter

import numpy as np

from tsdsr.study.blinding import plan_session
from tsdsr.study.definition import Study, StudyImage

IMAGES = tuple(StudyImage(s, None, f"in {s}", f"ref {s}", tuple(f"{n} {s}" for n in "abcd")) for s in "uvwxyz")
STUDY = Study("t", "secret", tuple("abcd"), IMAGES, shown=4, per_voter=6)
SESSIONS = 600


def evenly(counts: Counter[object], cells: int) -> bool:
    """Whether chi-squared is below what 1 in 1000 uniform samples exceeds (Wilson and Hilferty's approximation)."""
    expected = counts.total() / cells
    chi2 = sum((n - expected) ** 2 for n in counts.values()) / expected + expected * (cells - len(counts))
    freedom = cells - 1
    return bool(chi2 < freedom * (1 - 2 / (9 * freedom) + 3.09 * np.sqrt(2 / (9 * freedom))) ** 3)


def test_a_session_stays_as_it_is() -> None:
    assert plan_session(STUDY, 3) == plan_session(STUDY, 3)
    assert plan_session(STUDY, 3) != plan_session(dataclasses.replace(STUDY, seed="other"), 3)


def test_every_picture_is_found_by_its_address() -> None:
    plan = plan_session(STUDY, 1)
    assert sorted(plan.pictures.values()) == sorted(k for i in IMAGES for k in (i.input, i.reference, *i.candidates))
    for trial in plan.trials:
        for address, name in zip(trial.candidates, trial.systems, strict=True):
            assert plan.pictures[address] == f"{name} {trial.image.stem}"
            assert plan.choices[address] == (trial, name)
    assert not {trial.input for trial in plan.trials} & plan.choices.keys()


def test_addresses_belong_to_one_session() -> None:
    first, second = (set(plan_session(STUDY, k).pictures) for k in (1, 2))
    assert len(first) == len(second) == 36
    assert not first & second
    assert all(len(address) == 32 for address in first)


def test_positions_and_order_are_even() -> None:
    positions: Counter[object] = Counter()
    pairs: Counter[object] = Counter()
    first: Counter[object] = Counter()
    for session in range(SESSIONS):
        plan = plan_session(STUDY, session)
        first[plan.trials[0].image.stem] += 1
        positions.update((name, k) for k, name in enumerate(plan.trials[0].systems))
        pairs["".join(plan.trials[1].systems)] += 1
    assert evenly(first, 6)
    assert evenly(positions, 16)
    assert evenly(pairs, 24)  # all orders of four


def test_parts_of_a_large_study() -> None:
    study = dataclasses.replace(STUDY, shown=2, per_voter=4)
    pairs: Counter[object] = Counter()
    images: Counter[object] = Counter()
    for session in range(SESSIONS):
        plan = plan_session(study, session)
        assert len(plan.trials) == 4
        assert len(plan.pictures) == 16
        pairs[plan.trials[0].systems] += 1
        images.update(trial.image.stem for trial in plan.trials)
    assert evenly(pairs, 12)
    assert set(images) == set("uvwxyz")
    assert min(images.values()) > 0.8 * max(images.values())
