"""Statistics of choices: approval rates, strengths by Luce's choice model, and how sure they are.

A voter's votes are alike: who prefers sharp pictures does so on every image. Resampling therefore draws whole sessions.
It speaks of other voters judging the same images; how much would change with other images, it does not say.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tsdsr.errors import DatasetError, MissingDependencyError, install_extra
from tsdsr.study.votes import Vote

Array = NDArray[np.float64]
Interval = tuple[float, float]

MIN_SESSIONS = 5
"""With fewer sessions their spread cannot be estimated; single votes are resampled instead."""

RESAMPLES = 2000
PRIOR = 0.5
"""Votes that every system is given beforehand, against all others: Jeffreys' prior. A system nobody chose keeps a
strength above zero, and strengths exist even when some systems were never chosen over some others."""


@dataclass(frozen=True)
class Tally:
    """Votes as arrays; a unit is what is resampled, a session or a single vote.

    Attributes:
        wins (Array): (units, systems), how often each system was chosen.
        shown (Array): (units, systems), how often it could have been.
        sets (Array): (sets, systems), 1 where a system belongs to a set that was shown together; the first is all.
        times (Array): (units, sets), how often each set was shown.
        by_session (bool): units are sessions.
    """

    wins: Array
    shown: Array
    sets: Array
    times: Array
    by_session: bool


def tally(votes: Sequence[Vote], systems: Sequence[str], by_session: bool) -> Tally:
    """Count votes by unit.

    Raises:
        DatasetError: a vote is for a system that the study does not have.
    """
    number = {name: k for k, name in enumerate(systems)}
    units = [vote.session for vote in votes] if by_session else list(range(len(votes)))
    unit_of = {unit: k for k, unit in enumerate(dict.fromkeys(units))}
    set_of = {tuple(range(len(systems))): 0}
    try:
        shown_sets = [tuple(sorted(number[name] for name in vote.shown)) for vote in votes]
        choices = [number[vote.choice] for vote in votes]
    except KeyError as error:
        raise DatasetError(f"votes name the system {error}, which the study does not have") from error
    for shown in shown_sets:
        set_of.setdefault(shown, len(set_of))
    sets = np.zeros((len(set_of), len(systems)))
    for members, row in set_of.items():
        sets[row, list(members)] = 1
    wins = np.zeros((len(unit_of), len(systems)))
    times = np.zeros((len(unit_of), len(set_of)))
    rows = [unit_of[unit] for unit in units]
    np.add.at(wins, (rows, choices), 1)
    np.add.at(times, (rows, [set_of[shown] for shown in shown_sets]), 1)
    return Tally(wins, times @ sets, sets, times, by_session)


def wilson(chosen: float, shown: float) -> Interval:
    """Wilson's 95 % score interval of a share, for independent votes (JASA 22, 1927).

    Args:
        chosen (float): successes; a fraction where several dependent votes count as one.
        shown (float): trials, above 0.
    """
    z = NormalDist().inv_cdf(0.975)
    share, spread = chosen / shown, z * z / shown
    middle = (share + spread / 2) / (1 + spread)
    half = math.sqrt(spread * (share * (1 - share) + spread / 4)) / (1 + spread)
    return middle - half if chosen else 0.0, middle + half if chosen < shown else 1.0


def approval_interval(counts: Tally, system: int, seed: int = 0) -> Interval:
    """95 % interval of the share of its appearances in which a system was chosen.

    Wilson's interval, widened where that of resampled units reaches further. Wilson's alone is too narrow when the
    votes of a session are alike; resampling alone has no width when everybody agrees.

    Args:
        counts (Tally): the votes; the system was shown in some.
        system (int): its number.
        seed (int): of the draws.
    """
    wins, shown = counts.wins[:, system], counts.shown[:, system]
    low, high = wilson(wins.sum(), shown.sum())
    weights = np.random.default_rng(seed).exponential(size=(RESAMPLES, len(wins)))
    drawn_low, drawn_high = interval((weights @ wins) / (weights @ shown), len(wins))
    return min(low, drawn_low), max(high, drawn_high)


def luce(wins: Array, sets: Array, times: Array, tolerance: float = 1e-8, iterations: int = 5_000) -> Array:
    """Strengths of which a choice is proportional: P(i is chosen from S) = π_i / Σ_{j in S} π_j.

    For sets of two this is the Bradley-Terry model. Maximum likelihood by minorisation: π_i ← w_i / Σ_S n_S [i in S] /
    Σ_{j in S} π_j; Hunter, Annals of Statistics 32, 2004. When every set is all systems, the answer is the share of
    votes.

    Args:
        wins (Array): (..., systems), w: times chosen.
        sets (Array): (sets, systems), 1 for members.
        times (Array): (..., sets), n: times shown.
        tolerance (float): stop when no strength changes by more.
        iterations (int): stop in any case.

    Returns:
        Array: (..., systems), sum 1.
    """
    strengths = np.full(wins.shape, 1 / wins.shape[-1])
    for _ in range(iterations):
        new = wins / ((times / (strengths @ sets.T)) @ sets)
        new /= new.sum(-1, keepdims=True)
        change = np.abs(new - strengths).max()
        strengths = new
        if change < tolerance:
            break
    return strengths


def strengths(counts: Tally, seed: int = 0) -> tuple[Array, Array]:
    """Strengths under Jeffreys' prior, and resampled ones.

    A resampled one weighs every unit by an exponential number and the prior's votes by gamma numbers of their own
    (Bayesian bootstrap). Two systems and one vote a unit give Jeffreys' beta distribution exactly.

    Returns:
        (Array, Array): (systems,) and (:data:`RESAMPLES`, systems), each row with sum 1.
    """
    rng = np.random.default_rng(seed)
    units, systems = counts.wins.shape
    weights = np.concatenate([np.ones((1, units)), rng.exponential(size=(RESAMPLES, units))])
    prior = np.concatenate([np.full((1, systems), PRIOR), rng.gamma(PRIOR, size=(RESAMPLES, systems))])
    times = weights @ counts.times
    times[:, 0] += prior.sum(1)
    found = luce(weights @ counts.wins + prior, counts.sets, times)
    return found[0], found[1:]


def interval(draws: Array, units: int) -> Interval:
    """The 95 % interval of resampled values: their quantiles, taken further out when units are few.

    The tails are Φ(-t √(n/(n - 1))) with Student's t of n - 1 degrees of freedom for n units, the expanded percentile
    interval of Hesterberg, American Statistician 69, 2015; 2.5 % when n is large.

    Args:
        draws (Array): (:data:`RESAMPLES`,), resampled values.
        units (int): how many sessions or votes were resampled.
    """
    stats, freedom = _stats(), max(units - 1, 1)
    tail = float(stats.norm.cdf(-stats.t.ppf(0.975, freedom) * math.sqrt((freedom + 1) / freedom)))
    low, high = np.quantile(draws, (tail, 1 - tail))
    return float(low), float(high)


def _stats() -> Any:
    """scipy.stats."""
    try:
        from scipy import stats
    except ImportError as error:
        raise MissingDependencyError(f"statistics of a study need scipy: {install_extra('study')}") from error
    return stats
