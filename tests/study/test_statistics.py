"""Statistics against closed forms, published values and simulations whose truth is known."""

from __future__ import annotations

import numpy as np
import pytest

from tsdsr.errors import DatasetError
from tsdsr.study.statistics import approval_interval, interval, luce, strengths, tally, wilson
from tsdsr.study.votes import Vote

ABC = ("a", "b", "c")


def votes_for(counts: dict[str, int], shown: tuple[str, ...], first_session: int = 1) -> list[Vote]:
    """One vote a session."""
    choices = [name for name, n in counts.items() for _ in range(n)]
    return [Vote(first_session + k, "x", shown, name) for k, name in enumerate(choices)]


@pytest.mark.parametrize(
    ("chosen", "shown", "bounds"),
    [(81, 263, (0.2553, 0.3662)), (15, 148, (0.0624, 0.1605)), (0, 20, (0.0, 0.1611)), (1, 29, (0.0061, 0.1718))],
)
def test_wilson_as_published(chosen: int, shown: int, bounds: tuple[float, float]) -> None:
    """The examples of Newcombe, Statistics in Medicine 17, 1998, table I."""
    assert wilson(chosen, shown) == pytest.approx(bounds, abs=5e-5)
    low, high = wilson(shown - chosen, shown)
    assert (1 - high, 1 - low) == pytest.approx(bounds, abs=5e-5)


def test_votes_are_counted_by_session_and_set() -> None:
    votes = [Vote(7, "x", ("b", "a"), "a"), Vote(7, "y", ("c", "b"), "b"), Vote(9, "x", ("a", "b"), "a")]
    counts = tally(votes, ABC, by_session=True)
    assert counts.wins.tolist() == [[1, 1, 0], [1, 0, 0]]
    assert counts.shown.tolist() == [[1, 2, 1], [1, 1, 0]]
    assert counts.sets.tolist() == [[1, 1, 1], [1, 1, 0], [0, 1, 1]]
    assert counts.times.tolist() == [[0, 1, 1], [0, 1, 0]]
    assert tally(votes, ABC, by_session=False).wins.shape == (3, 3)
    with pytest.raises(DatasetError, match="'c'"):
        tally(votes, ("a", "b"), by_session=True)


def test_two_systems_have_a_closed_form() -> None:
    counts = tally(votes_for({"a": 7, "b": 3}, ("a", "b")), ("a", "b"), by_session=True)
    assert luce(counts.wins.sum(0), counts.sets, counts.times.sum(0)) == pytest.approx([0.7, 0.3])
    value, draws = strengths(counts)
    assert value == pytest.approx([7.5 / 11, 3.5 / 11])  # with the prior's half votes
    beta = np.random.default_rng(5).beta(7.5, 3.5, 200_000)  # Jeffreys' posterior
    levels = (0.025, 0.25, 0.5, 0.75, 0.975)
    assert np.quantile(draws[:, 0], levels) == pytest.approx(np.quantile(beta, levels), abs=0.02)


def test_when_all_are_shown_strengths_are_shares() -> None:
    counts = tally(votes_for({"a": 6, "b": 3, "c": 1}, ABC), ABC, by_session=True)
    assert luce(counts.wins.sum(0), counts.sets, counts.times.sum(0)) == pytest.approx([0.6, 0.3, 0.1])


def test_three_by_pairs_satisfy_the_likelihood_equations() -> None:
    """Bradley-Terry: the wins expected of each system equal those observed."""
    pairs = {("a", "b"): (9, 3), ("a", "c"): (14, 2), ("b", "c"): (5, 5)}
    votes = [v for (i, j), (n, m) in pairs.items() for v in votes_for({i: n, j: m}, (i, j))]
    counts = tally(votes, ABC, by_session=False)
    p = dict(zip(ABC, luce(counts.wins.sum(0), counts.sets, counts.times.sum(0)), strict=True))
    for k, name in enumerate(ABC):
        expected = sum((n + m) * p[name] / (p[i] + p[j]) for (i, j), (n, m) in pairs.items() if name in (i, j))
        assert expected == pytest.approx(counts.wins.sum(0)[k], abs=1e-5)


def test_known_strengths_are_recovered_from_pairs() -> None:
    rng = np.random.default_rng(3)
    names = tuple("abcdef")
    true = np.array([0.35, 0.25, 0.17, 0.12, 0.08, 0.03])
    votes = []
    for k in range(3000):
        i, j = rng.choice(6, 2, replace=False)
        won = i if rng.random() < true[i] / (true[i] + true[j]) else j
        votes.append(Vote(k // 30, str(k), (names[i], names[j]), names[won]))
    value, draws = strengths(tally(votes, names, by_session=True))
    assert value == pytest.approx(true, abs=0.03)
    inside = [low <= t <= high for t, (low, high) in zip(true, (interval(d, 100) for d in draws.T), strict=True)]
    assert sum(inside) >= 5


def test_systems_nobody_chose() -> None:
    counts = tally(votes_for({"a": 12}, ABC), ABC, by_session=True)
    value, draws = strengths(counts)
    assert value == pytest.approx([12.5 / 13.5, 0.5 / 13.5, 0.5 / 13.5])
    low, high = interval(draws[:, 1], 12)
    assert 0 < low < value[1] < high < 0.3
    assert approval_interval(counts, 1) == (0, pytest.approx(wilson(0, 12)[1]))
    assert approval_interval(counts, 0)[1] == 1


def test_systems_that_never_met() -> None:
    """a beats b, c beats d: the prior alone joins the two."""
    names = ("a", "b", "c", "d")
    votes = votes_for({"a": 5}, ("a", "b")) + votes_for({"c": 5}, ("c", "d"), 6)
    value, draws = strengths(tally(votes, names, by_session=True))
    assert value[0] == pytest.approx(value[2])
    assert value[0] > 4 * value[1] > 0
    assert np.isfinite(draws).all()


def test_few_units_widen_intervals() -> None:
    draws = np.random.default_rng(0).normal(size=2000)
    assert interval(draws, 100_000) == pytest.approx(tuple(np.quantile(draws, (0.025, 0.975))), abs=0.01)
    # Student's t of 7 degrees of freedom times the root of 8 / 7 is 2.528, of which normal tails are 0.574 %.
    assert interval(draws, 8) == pytest.approx(tuple(np.quantile(draws, (0.00574, 0.99426))), abs=0.01)
    assert interval(draws, 1)[0] == draws.min()


@pytest.mark.parametrize(("voters", "each"), [(8, 20), (50, 5)])
def test_intervals_hold_the_truth_when_voters_differ(voters: int, each: int) -> None:
    """Every voter has an inclination of their own around 60 %: Wilson's interval, made for independent votes, fails."""
    rng = np.random.default_rng(1)
    true, alike, studies = 0.6, 0.2, 200
    shape = (1 - alike) / alike
    held = dict.fromkeys(("approval", "strength", "wilson"), 0)
    for _ in range(studies):
        wins = rng.binomial(each, rng.beta(true * shape, (1 - true) * shape, voters))
        votes = [Vote(s, str(k), ("a", "b"), "a" if k < n else "b") for s, n in enumerate(wins) for k in range(each)]
        counts = tally(votes, ("a", "b"), by_session=True)
        bounds = {
            "approval": approval_interval(counts, 0),
            "strength": interval(strengths(counts)[1][:, 0], voters),
            "wilson": wilson(wins.sum(), voters * each),
        }
        for name, (low, high) in bounds.items():
            held[name] += low <= true <= high
    assert held["approval"] >= 0.9 * studies
    assert held["strength"] >= 0.9 * studies
    assert held["wilson"] < 0.88 * studies
