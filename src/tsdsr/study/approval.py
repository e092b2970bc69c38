"""Results of a user study: approval rates by category, as in figure 8 of the paper, and a ranking."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tsdsr.errors import DatasetError
from tsdsr.files import write_text
from tsdsr.study.definition import Study
from tsdsr.study.statistics import MIN_SESSIONS, Interval, approval_interval, interval, strengths, tally
from tsdsr.study.votes import Vote

OVERALL = "Overall"


@dataclass(frozen=True)
class Approval:
    """Approval of one system.

    Attributes:
        chosen (int): how often the system was chosen.
        shown (int): how often it was shown.
        rate (float): ``chosen / shown``.
        interval (tuple): 95 % interval of the rate.
    """

    chosen: int
    shown: int
    rate: float
    interval: Interval


@dataclass(frozen=True)
class Strength:
    """Bradley-Terry strength of one system in the ranking.

    Attributes:
        system (str): name of the system.
        value (float): probability that it is chosen when all systems are shown.
        interval (tuple): 95 % interval of ``value``.
        over_next (float | None): probability that it is chosen over the next system in the ranking; None for the last.
        over_next_interval (tuple | None): 95 % interval of ``over_next``.
    """

    system: str
    value: float
    interval: Interval
    over_next: float | None
    over_next_interval: Interval | None


@dataclass(frozen=True)
class StudyReport:
    """Results of a study.

    Attributes:
        title (str): title of the study.
        systems (tuple of str): system names, in the study's order.
        voters (int): number of sessions that voted.
        votes (int): number of votes.
        images (int): number of images voted on.
        groups (tuple of str): categories, then :data:`OVERALL`, in which every vote has equal weight.
        approvals (mapping): group → system → :class:`Approval`; systems that were not shown in a group are absent.
        ranking (tuple of Strength): systems from strongest to weakest.
        positions (tuple of int): how often each position on the page was chosen.
        by_session (bool): whether intervals resample sessions instead of single votes.
    """

    title: str
    systems: tuple[str, ...]
    voters: int
    votes: int
    images: int
    groups: tuple[str, ...]
    approvals: dict[str, dict[str, Approval]]
    ranking: tuple[Strength, ...]
    positions: tuple[int, ...]
    by_session: bool

    def save(self, path: Path) -> None:
        """Write the report as JSON. The write is atomic."""
        write_text(path, json.dumps(dataclasses.asdict(self), indent=1, ensure_ascii=False) + "\n")


def study_report(study: Study, votes: Sequence[Vote]) -> StudyReport:
    """Compute approval rates and the ranking from the votes of a study.

    Args:
        study (Study): definition of the study.
        votes (sequence of Vote): all votes of the study.

    Raises:
        DatasetError: There are no votes, or they belong to another study.
    """
    if not votes:
        raise DatasetError("there are no votes yet")
    category = {image.stem: image.category for image in study.images}
    if unknown := sorted({vote.image for vote in votes} - category.keys()):
        raise DatasetError(f"votes name images that the study does not have: {', '.join(unknown[:10])}")
    voters = len({vote.session for vote in votes})
    by_session = voters >= MIN_SESSIONS
    members = {name: [v for v in votes if category[v.image] == name] for name in study.categories}
    groups = {**{name: some for name, some in members.items() if some}, OVERALL: list(votes)}
    return StudyReport(
        study.title,
        study.systems,
        voters,
        len(votes),
        len({vote.image for vote in votes}),
        tuple(groups),
        {name: _approvals(some, study.systems, by_session) for name, some in groups.items()},
        _ranking(votes, study.systems, by_session),
        tuple(sum(vote.position == k for vote in votes) for k in range(1, study.shown + 1)),
        by_session,
    )


def _approvals(votes: Sequence[Vote], systems: Sequence[str], by_session: bool) -> dict[str, Approval]:
    counts = tally(votes, systems, by_session)
    found = {}
    for k, name in enumerate(systems):
        if shown := int(counts.shown[:, k].sum()):
            chosen = int(counts.wins[:, k].sum())
            found[name] = Approval(chosen, shown, chosen / shown, approval_interval(counts, k))
    return found


def _ranking(votes: Sequence[Vote], systems: Sequence[str], by_session: bool) -> tuple[Strength, ...]:
    counts = tally(votes, systems, by_session)
    values, draws = strengths(counts)
    units = len(counts.wins)
    order = sorted(range(len(systems)), key=lambda k: -values[k])
    rows = []
    for k, following in zip(order, [*order[1:], None], strict=True):
        over, over_interval = None, None
        if following is not None:
            over = float(values[k] / (values[k] + values[following]))
            over_interval = interval(draws[:, k] / (draws[:, k] + draws[:, following]), units)
        rows.append(Strength(systems[k], float(values[k]), interval(draws[:, k], units), over, over_interval))
    return tuple(rows)
