"""Study reports as terminal tables, Markdown, and a figure."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from tsdsr.errors import MissingDependencyError, install_extra
from tsdsr.evaluation.terminal import FittedTable, Lines
from tsdsr.files import StrPath, atomic_path
from tsdsr.study.approval import OVERALL, Strength, StudyReport
from tsdsr.study.statistics import MIN_SESSIONS, Interval
from tsdsr.wording import counted

if TYPE_CHECKING:
    from rich.console import Group

ABSENT = "n/a"
_RANKING = ("", "chosen among all", "95 % interval", "over the next", "95 % interval")


def to_rich(report: StudyReport) -> Group:
    """Render a report for the terminal: approval rates with intervals, the ranking, and notes.

    The highest rate of each group is bold.
    """
    from rich.console import Group
    from rich.markup import escape

    cells = []
    for system in report.systems:
        row = [escape(system)]
        for group in report.groups:
            rate, between = _cell(report, group, system)
            rate = f"[bold]{rate}[/]" if system in _highest(report, group) else rate
            row.append(f"{rate}\n[dim]{escape(between)}[/]" if between else rate)
        cells.append(row)
    rates = FittedTable(
        ["", *map(escape, report.groups)],
        cells,
        title="Approval rate, %",
        caption=f"bold highest; {escape('[..]')} 95 % interval",
    )
    strengths = [[escape(cell) for cell in _ranking_cells(row)] for row in report.ranking]
    ranking = FittedTable(_RANKING, strengths, title="Bradley-Terry ranking, %")
    return Group(rates, ranking, Lines(notes(report)))


def to_markdown(report: StudyReport) -> str:
    """Render both tables and the notes as Markdown."""

    def table(rows: list[list[str]]) -> str:
        lines = [rows[0], ["---"] + ["---:"] * (len(rows[0]) - 1), *rows[1:]]
        return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)

    rates = [["approval rate, %", *report.groups]]
    for system in report.systems:
        cells = [_cell(report, group, system) for group in report.groups]
        marked = [
            f"**{rate}** {between}" if system in _highest(report, group) else f"{rate} {between}".strip()
            for group, (rate, between) in zip(report.groups, cells, strict=True)
        ]
        rates.append([system, *marked])
    ranking = [["Bradley-Terry ranking, %", *_RANKING[1:]], *(list(_ranking_cells(row)) for row in report.ranking)]
    return "\n\n".join([table(rates), table(ranking), *notes(report)])


def notes(report: StudyReport) -> list[str]:
    """Return notes on the number of votes, the share of each position, and the meaning of the intervals."""
    shares = ", ".join(f"{100 * n / report.votes:.0f}" for n in report.positions)
    unit = (
        "whole sessions resampled"
        if report.by_session
        else f"single votes resampled, as resampling sessions takes {MIN_SESSIONS} voters; too narrow if the "
        "votes of one voter are alike"
    )
    return [
        f"{counted(report.voters, 'voter')}, {counted(report.votes, 'vote')} on {counted(report.images, 'image')}. "
        f"Share of votes by position on the page, %: {shares}.",
        f"Intervals: {unit}; for rates no narrower than Wilson's. They are for other voters and the same images.",
    ]


def write_figure(report: StudyReport, path: StrPath) -> None:
    """Draw approval rates by category as a bar chart with intervals, like figure 8 of the paper, and save it as PNG.

    Raises:
        MissingDependencyError: matplotlib is not installed.
    """
    path = Path(path)
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingDependencyError(f"the figure needs matplotlib: {install_extra('study')}") from error
    width = 0.8 / len(report.systems)
    inches = max(4.0, 1.2 + 0.42 * len(report.groups) * (len(report.systems) + 0.8))
    figure = Figure(figsize=(inches, 3.8), layout="constrained")
    axes = figure.add_subplot()
    for k, system in enumerate(report.systems):
        for place, group in enumerate(report.groups):
            found = report.approvals[group].get(system)
            if found is None:
                continue
            rate, (low, high) = 100 * found.rate, (100 * bound for bound in found.interval)
            x = place + (k - (len(report.systems) - 1) / 2) * width
            axes.bar(x, rate, 0.9 * width, color=f"C{k}", label=_plain(system) if group == OVERALL else None)
            axes.errorbar(x, rate, [[rate - low], [high - rate]], color="0.25", linewidth=0.9, capsize=2)
            axes.annotate(
                f"{rate:.1f}", (x, high), (0, 2), textcoords="offset points", ha="center", fontsize=7, color="0.25"
            )
    axes.set_xticks(range(len(report.groups)), [_plain(group) for group in report.groups])
    axes.set_ylabel("approval rate, %")
    axes.set_ylim(bottom=0)
    axes.margins(x=0.02, y=0.1)
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(axis="x", length=0)
    if len(report.groups) > 1:
        axes.axvline(len(report.groups) - 1.5, color="0.8", linewidth=0.8)
    figure.legend(loc="outside upper left", ncols=min(len(report.systems), 5), frameon=False, fontsize=9)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format="png", dpi=160)


def _plain(name: str) -> str:
    """Escape what Matplotlib would read as a formula."""
    return name.replace("$", r"\$")


def _cell(report: StudyReport, group: str, system: str) -> tuple[str, str]:
    """Format the rate and the interval."""
    found = report.approvals[group].get(system)
    return (ABSENT, "") if found is None else (f"{100 * found.rate:.1f}", between(found.interval))


def _highest(report: StudyReport, group: str) -> set[str]:
    rates = {name: found.rate for name, found in report.approvals[group].items()}
    return {name for name, rate in rates.items() if rate == max(rates.values())}


def _ranking_cells(row: Strength) -> tuple[str, ...]:
    value = (row.system, f"{100 * row.value:.1f}", between(row.interval))
    if row.over_next is None or row.over_next_interval is None:
        return (*value, "", "")
    return (*value, f"{100 * row.over_next:.1f}", between(row.over_next_interval))


def between(bounds: Interval) -> str:
    """Format an interval of shares in percent."""
    return "[" + ", ".join(f"{100 * bound:.1f}" for bound in bounds) + "]"
