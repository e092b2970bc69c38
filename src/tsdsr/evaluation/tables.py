"""Tables of measured and published results, with best and second best marked: terminal, Markdown, CSV and LaTeX."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tsdsr.evaluation.metrics import METRICS
from tsdsr.evaluation.published import SIZES, PublishedRow
from tsdsr.evaluation.results import Cost, Evaluation
from tsdsr.evaluation.terminal import FittedTable, Lines, printable
from tsdsr.wording import counted

if TYPE_CHECKING:
    from rich.console import ConsoleRenderable, Group

ABSENT = "n/a"


@dataclass(frozen=True)
class Row:
    """One line of a table.

    Attributes:
        label (str): name of the system.
        measured (bool): True for measured rows, False for published rows.
        values (mapping): metric name → value; None or no entry if there is no value.
        intervals (mapping): metric name → 95 % interval.
        cost (Cost | None): time and memory, if measured.
    """

    label: str
    measured: bool
    values: Mapping[str, float | None]
    intervals: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    cost: Cost | None = None


_COSTS: Mapping[str, Callable[[Cost], str]] = {
    "s/image": lambda c: f"{c.seconds:.3g}",
    "network": lambda c: ABSENT if c.seconds_network is None else f"{c.seconds_network:.3g}",
    "memory": lambda c: ABSENT if c.peak_memory is None else f"{c.peak_memory / 2**20:,.0f} MiB",
    "parameters": lambda c: f"{c.parameters / 1e6:,.2f} M" if c.parameters else "0",
    "on": lambda c: f"{c.device}, {c.dtype}",
}
"""Cost columns: heading → function that formats a :class:`Cost`."""


def table_rows(found: Evaluation, published: Sequence[PublishedRow] = ()) -> list[Row]:
    """Return the rows of an evaluation, followed by published rows."""
    measured = [
        Row(
            printable(system.name),
            True,
            {name: scores.mean for name, scores in system.scores.items()},
            {name: scores.interval for name, scores in system.scores.items() if scores.interval},
            system.cost,
        )
        for system in found.systems
    ]
    return measured + [Row(row.method, False, row.values) for row in published]


def rank(rows: Sequence[Row], metrics: Sequence[str]) -> dict[str, tuple[float | None, float | None]]:
    """Find the best and second-best value of each metric; equal values share a rank.

    Args:
        rows (sequence of Row): rows to rank.
        metrics (sequence of str): names in :data:`tsdsr.evaluation.metrics.METRICS`.

    Returns:
        dict: metric → (best, second best); None if there are too few distinct values. Values are compared as printed,
        so values that look equal get the same mark.
    """
    ranked: dict[str, tuple[float | None, float | None]] = {}
    for name in metrics:
        values = {_rounded(name, row.values.get(name)) for row in rows}
        known = [v for v in values if v is not None]
        best_first = [*sorted(known, reverse=METRICS[name].higher_is_better), None, None]
        ranked[name] = (best_first[0], best_first[1])
    return ranked


def to_rich(found: Evaluation, published: Sequence[PublishedRow] = ()) -> Group:
    """Render for the terminal: best bold, second best underlined, intervals below the means, a table of costs.

    A table wider than the console is split into several.
    """
    from rich.console import Group
    from rich.markup import escape

    rows = table_rows(found, published)
    marks = _marks(found, rows, published)

    def cell(row: Row, name: str) -> str:
        style = _mark(marks[row.measured][name], name, row.values.get(name))
        text = _text(name, row.values.get(name))
        text = {"best": f"[bold]{text}[/]", "second": f"[underline]{text}[/]", "": text}[style]
        if interval := row.intervals.get(name):
            text += "\n[dim]" + escape("[" + ", ".join(_text(name, v) for v in interval) + "]") + "[/]"
        return text

    parts: list[ConsoleRenderable] = [
        FittedTable(
            [counted(len(found.images), "image"), *(_heading(name, "↑", "↓") for name in found.metrics)],
            [
                [
                    escape(row.label) if row.measured else f"{escape(row.label)} [dim](published)[/]",
                    *(cell(row, name) for name in found.metrics),
                ]
                for row in rows
            ],
            caption=f"bold best, underlined second best; {escape('[..]')} 95 % interval over images",
            sections=[len(found.systems)],
        )
    ]
    if costs := _cost_columns(found):
        timed = [row for row in rows if row.cost]
        sizes = sorted({"x".join(map(str, row.cost.input_size)) for row in timed if row.cost})
        caption = f"median of warm runs, inputs of {', '.join(sizes)}"
        cells = [[escape(row.label), *(_cost(row, name) for name in costs)] for row in timed]
        parts.append(FittedTable(["", *costs], cells, caption=caption))
    return Group(*parts, Lines(notes(found, published)))


def to_markdown(found: Evaluation, published: Sequence[PublishedRow] = ()) -> str:
    """Render as Markdown: best **bold**, second best <u>underlined</u>, followed by the notes."""

    def mark(text: str, style: str) -> str:
        return {"best": f"**{text}**", "second": f"<u>{text}</u>", "": text}[style]

    header, *lines = _cells(found, published, mark, "↑", "↓", " (published)")
    rule = ["---"] + ["---:"] * (len(header) - 1)
    table = "\n".join("| " + " | ".join(c.replace("|", "\\|") for c in line) + " |" for line in (header, rule, *lines))
    return "\n\n".join([table, *notes(found, published)])


def to_latex(found: Evaluation, published: Sequence[PublishedRow] = ()) -> str:
    r"""Render as a LaTeX ``tabular`` for booktabs: best ``\textbf``, second best ``\underline``."""

    def mark(text: str, style: str) -> str:
        return {"best": rf"\textbf{{{text}}}", "second": rf"\underline{{{text}}}", "": text}[style]

    escaped = str.maketrans({c: f"\\{c}" for c in "&%$#_{}"})
    header, *lines = _cells(found, published, mark, r"$\uparrow$", r"$\downarrow$", "", lambda t: t.translate(escaped))
    measured, others = lines[: len(found.systems)], lines[len(found.systems) :]
    parts = [[" & ".join(line) + r" \\" for line in group] for group in ([header], measured, others) if group]
    body = "\n\\midrule\n".join("\n".join(group) for group in parts)
    columns = "l" + "r" * (len(header) - 1)
    return f"\\begin{{tabular}}{{{columns}}}\n\\toprule\n{body}\n\\bottomrule\n\\end{{tabular}}"


def to_csv(found: Evaluation, published: Sequence[PublishedRow] = ()) -> str:
    """Render as CSV with all digits; intervals have their own columns, and missing values are empty."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    sides = [f"{name}_{side}" for name in found.metrics for side in ("low", "high")]
    writer.writerow(["system", "source", *found.metrics, *sides])
    for row in table_rows(found, published):
        bounds = [bound for name in found.metrics for bound in row.intervals.get(name, ("", ""))]
        values = [row.values.get(name) for name in found.metrics]
        writer.writerow(
            [row.label, "measured" if row.measured else "published", *("" if v is None else v for v in values), *bounds]
        )
    return out.getvalue()


def notes(found: Evaluation, published: Sequence[PublishedRow] = ()) -> list[str]:
    """Return notes: how each metric was computed, why some are unavailable, what was left out, what not to compare."""
    reasons = {
        name: system.scores[name].unavailable
        for system in found.systems
        for name in found.metrics
        if system.scores[name].unavailable
    }
    lines = [f"{METRICS[name].label}: {how}" for name, how in found.variants.items() if name not in reasons]
    versions = ", ".join(f"{k} {v}" for k, v in found.settings.items() if k in ("pyiqa", "torch", "torchvision"))
    computed = "Computed as " + "; ".join(lines) if lines else "Nothing could be computed"
    if border := found.settings.get("crop_border"):
        computed += f"; {border} pixels cropped on every side before PSNR and SSIM"
    return [
        computed + (f" ({versions})" if versions else "") + ".",
        *(f"{METRICS[name].label} unavailable: {why}" for name, why in reasons.items()),
        *cautions(found, published),
    ]


def cautions(found: Evaluation, published: Sequence[PublishedRow] = ()) -> list[str]:
    """Return what a reader must know to compare the means: which are over fewer images, which are quoted."""
    return [*_incomplete(found), *_about_published(found, published)]


def _incomplete(found: Evaluation) -> list[str]:
    """Say which means are over fewer images."""
    total = len(found.images)
    counts = {
        name: total - sum(map(math.isnan, found.systems[0].scores[name].values))
        for name in found.metrics
        if found.systems and found.systems[0].scores[name].values
    }
    short = [f"{METRICS[name].label} over {n}" for name, n in counts.items() if 0 < n < total]
    return [f"Not all of the {counted(total, 'image')} could be scored: {', '.join(short)}."] if short else []


def over_same_images(found: Evaluation, published: Sequence[PublishedRow]) -> bool:
    """Whether as many images were scored as the published rows are about."""
    return all(SIZES.get(row.dataset or "", len(found.images)) == len(found.images) for row in published)


def _about_published(found: Evaluation, published: Sequence[PublishedRow]) -> list[str]:
    if not published:
        return []
    lines = ["Published rows are quoted from the paper, not measured here."]
    if not over_same_images(found, published):
        count = max(SIZES.get(row.dataset or "", 0) for row in published)
        lines.append(
            f"They are means over {counted(count, 'image')}, the rows above over {len(found.images)}: means over other "
            "images do not compare, so each group is marked by itself."
        )
    return lines


def _marks(
    found: Evaluation, rows: Sequence[Row], published: Sequence[PublishedRow]
) -> dict[bool, dict[str, tuple[float | None, float | None]]]:
    """Rank all rows together, or measured (True) and published (False) rows apart if they are about other images."""
    if over_same_images(found, published):
        together = rank(rows, found.metrics)
        return {True: together, False: together}
    return {measured: rank([r for r in rows if r.measured is measured], found.metrics) for measured in (True, False)}


def _cells(
    found: Evaluation,
    published: Sequence[PublishedRow],
    mark: Callable[[str, str], str],
    up: str,
    down: str,
    suffix: str,
    escape: Callable[[str], str] = str,
) -> list[list[str]]:
    """Return header and rows as marked text."""
    rows, costs = table_rows(found, published), _cost_columns(found)
    marks = _marks(found, rows, published)
    cells = [["", *(_heading(name, up, down) for name in found.metrics), *costs]]
    for row in rows:
        values = [
            mark(_text(name, row.values.get(name)), _mark(marks[row.measured][name], name, row.values.get(name)))
            for name in found.metrics
        ]
        label = escape(row.label) + ("" if row.measured else suffix)
        cells.append([label, *values, *(escape(_cost(row, name)) for name in costs)])
    return cells


def _heading(name: str, up: str, down: str) -> str:
    return f"{METRICS[name].label} {up if METRICS[name].higher_is_better else down}"


def _text(name: str, value: float | None) -> str:
    return ABSENT if value is None else f"{value:.{METRICS[name].digits}f}"


def _rounded(name: str, value: float | None) -> float | None:
    return None if value is None or math.isnan(value) else round(value, METRICS[name].digits)


def _mark(ranks: tuple[float | None, float | None], name: str, value: float | None) -> str:
    rounded = _rounded(name, value)
    if rounded is None:
        return ""
    return {ranks[1]: "second", ranks[0]: "best"}.get(rounded, "")


def _cost_columns(found: Evaluation) -> list[str]:
    return list(_COSTS) if any(system.cost for system in found.systems) else []


def _cost(row: Row, name: str) -> str:
    return _COSTS[name](row.cost) if row.cost else ""
