"""Coverage of the 95 % intervals of a user study, in simulated studies with voters of different opinions.

    python benchmarks/study_intervals.py [--studies N]

Every voter chooses the system in question with an individual probability, drawn from a beta distribution around the
true rate. "correlation" is that of two votes of one voter; 0 means independent votes.
"""

from __future__ import annotations

import argparse

import numpy as np

from tsdsr.study.statistics import MIN_SESSIONS, approval_interval, interval, strengths, tally, wilson
from tsdsr.study.votes import Vote

SYSTEMS = ("ours", "theirs", "another")
CASES = (
    # voters, votes of each, true rate, correlation of two votes of one voter
    (3, 20, 0.5, 0.0),
    (3, 20, 0.5, 0.2),
    (5, 20, 0.5, 0.2),
    (8, 20, 0.5, 0.2),
    (20, 10, 0.5, 0.2),
    (50, 5, 0.692, 0.0),
    (50, 5, 0.692, 0.2),
    (50, 25, 0.692, 0.2),
    (50, 5, 0.97, 0.2),
)


def simulate(voters: int, each: int, rate: float, alike: float, rng: np.random.Generator) -> list[Vote]:
    """Simulate the votes of one study."""
    shape = (1 - alike) / alike if alike else None
    votes = []
    for voter in range(voters):
        own = rate if shape is None else rng.beta(rate * shape, (1 - rate) * shape)
        for k in range(each):
            chosen = SYSTEMS[0] if rng.random() < own else SYSTEMS[1 + int(rng.integers(2))]
            votes.append(Vote(voter, str(k), SYSTEMS, chosen))
    return votes


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--studies", type=int, default=1000)
    studies = parser.parse_args().studies
    rng = np.random.default_rng(0)
    print("| voters | votes of each | true rate | correlation | Wilson | approval | strength |")
    print("|---:|---:|---:|---:|---:|---:|---:|")
    for voters, each, rate, alike in CASES:
        held = np.zeros(3)
        for _ in range(studies):
            counts = tally(simulate(voters, each, rate, alike, rng), SYSTEMS, voters >= MIN_SESSIONS)
            seed = int(rng.integers(2**31))
            bounds = (
                wilson(counts.wins[:, 0].sum(), counts.shown[:, 0].sum()),
                approval_interval(counts, 0, seed),
                interval(strengths(counts, seed)[1][:, 0], len(counts.wins)),
            )
            held += [low <= rate <= high for low, high in bounds]
        shares = " | ".join(f"{100 * share:.0f}" for share in held / studies)
        print(f"| {voters} | {each} | {100 * rate:g} % | {alike:g} | {shares} |")


if __name__ == "__main__":
    main()
