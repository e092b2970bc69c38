"""``tsdsr bench``."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tsdsr.cli.common import DtypeChoice, errors_reported, require_report_file
from tsdsr.cli.progress import ProgressBars
from tsdsr.errors import require_torch
from tsdsr.wording import counted

if TYPE_CHECKING:
    from rich.table import Table

    from tsdsr.benchmark.runner import BenchResult, Timing


def bench(
    models: Annotated[
        list[str],
        typer.Argument(
            metavar="MODEL[,OPTION...]",
            help="'mini', a pipeline folder or hub ID; 'random:sd3' and the like: full size, random weights; "
            "'released:sd3': the same as the released code runs it; 'peer:realesrgan', 'peer:general-x4v3'. Options "
            "of one model: engine=onnx, fast, dtype=bf16, device=cpu, threads=2, fold, quantize=int8, compile, eager.",
        ),
    ],
    size: Annotated[int, typer.Option(min=1, help="Edge of the square input in pixels.")] = 128,
    scale: Annotated[float, typer.Option(help="How many times larger the result is, from 1 to 8.")] = 4.0,
    runs: Annotated[int, typer.Option(min=1, help="Number of timed runs.")] = 5,
    warmup: Annotated[int, typer.Option(min=0, help="Number of warm-up runs, reported separately.")] = 1,
    device: Annotated[str, typer.Option(help="'auto', 'cpu', 'cuda', 'cuda:1', 'mps' …")] = "auto",
    dtype: Annotated[DtypeChoice, typer.Option(help="Precision of the networks.")] = DtypeChoice.auto,
    threads: Annotated[
        int | None, typer.Option(min=1, help="Threads for PyTorch. Default: PyTorch's own choice.")
    ] = None,
    compile: Annotated[
        bool, typer.Option("--compile", help="Compile every model, except those given with 'eager'.")
    ] = False,
    json: Annotated[Path | None, typer.Option(help="File for all figures.")] = None,
) -> None:
    """Measure the time and peak memory of models, part by part.

    All models restore one image. Each runs in its own process, in turn with the others. Speed-ups are
    relative to the first model.
    """
    with errors_reported():
        if json is not None:
            require_report_file("--json", json)
        require_torch("timing models")
        from tsdsr.benchmark.entries import Entry
        from tsdsr.benchmark.runner import BenchSettings
        from tsdsr.benchmark.runner import bench as run

        common = Entry("mini", device, dtype.value, compile=compile, threads=threads)
        settings = BenchSettings(size, scale, runs, warmup)
        entries = [common.parsed(text) for text in models]
        with ProgressBars() as bars:
            found = run(entries, settings, lambda what, done, total: bars.report("runs", done, total, what))
        if json is not None:
            found.save(json)
    _show(found)
    if json is not None:
        typer.echo(f"written to {json}")


def _show(found: BenchResult) -> None:
    from rich.console import Console

    console, machine = Console(), found.machine
    gpus = "".join(f", {name}" for name in machine["gpus"])
    console.print(
        f"{machine['cpu']}, {counted(machine['cores'], 'core')}, {machine['instructions']}"
        f"{' with bf16' if machine['bf16'] else ''}, {machine.get('memory_gb', '?')} GB{gpus}; "
        + ", ".join(f"{name} {version}" for name, version in found.versions.items()),
        highlight=False,
    )
    console.print(_table(found))


def _table(found: BenchResult) -> Table:
    """Format the result as a table: models as columns, parts as rows."""
    from rich.table import Table

    from tsdsr.benchmark.entries import PARTS

    settings, timings = found.settings, found.timings
    runs = counted(settings.runs, "run")
    title = f"{settings.size}² at scale {settings.scale:g}, batch 1; seconds, the middle one of {runs}"
    table = Table("", title=title, title_justify="left")
    for timing in timings:
        table.add_column(timing.name, justify="right", overflow="fold")

    def row(label: str, cell: Callable[[Timing], str], end_section: bool = False) -> None:
        table.add_row(label, *map(cell, timings), end_section=end_section)

    row("engine", lambda t: t.engine)
    row("runs on", lambda t: f"{t.device}, {counted(t.threads, 'thread')}" if t.device == "cpu" else t.device)
    row("precision", lambda t: f"{t.dtype}{', compiled' if t.entry.compile else ''}")
    row("weights", lambda t: "-" if t.parameters is None else f"{t.parameters / 1e6:,.1f} M", end_section=True)
    row("load", lambda t: _seconds(t.load_seconds))
    row("warm-up", lambda t: " + ".join(map(_seconds, t.warmup_seconds)) or "-", end_section=True)
    for part in PARTS:
        row(part, lambda t, part=part: _seconds(t.median(part)))  # type: ignore[misc]
    row("total", lambda t: _seconds(t.median()))
    row("smallest - largest", _range)
    table.add_section()
    row("processor time", lambda t: _seconds(t.median("cpu")))
    row("peak memory", lambda t: _gigabytes(t.peak_memory))
    row("while loading", lambda t: _gigabytes(t.peak_memory_loading), end_section=True)
    if len(timings) > 1:
        table.add_row("speed-up", *(f"{ratio:.2f}x" for ratio in found.speedups()))
        table.add_row("memory", *("-" if ratio is None else f"{ratio:.2f}x" for ratio in found.memory_ratios()))
    return table


def _range(timing: Timing) -> str:
    totals = [run["total"] for run in timing.runs]
    return f"{_seconds(min(totals))} - {_seconds(max(totals))}"


def _seconds(value: float) -> str:
    if value == 0:
        return "-"  # this model has no such part
    return f"{value:.1f}" if value >= 100 else f"{value:.2f}" if value >= 1 else f"{value:.4f}"


def _gigabytes(size: int | None) -> str:
    return "-" if size is None else f"{size / 1e9:.2f} GB"
