"""Progress bars of the commands."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from types import TracebackType
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

T = TypeVar("T")


class ProgressBars:
    """Progress bars on stderr, one per counted item type; a full bar disappears.

    ::

        with ProgressBars() as bars:
            bars.report("images", 3, 10, "2.1 images/s")

    Nothing is shown unless stderr is a terminal; rich, which takes a while to import, is not loaded then.
    """

    def __init__(self) -> None:
        self._progress = _progress() if sys.stderr.isatty() else None
        self._tasks: dict[str, TaskID] = {}

    def __enter__(self) -> ProgressBars:
        if self._progress is not None:
            self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._progress is not None:
            self._progress.stop()

    def report(self, what: str, done: int, total: int, note: str = "") -> None:
        """Set the bar ``what`` to ``done`` of ``total``, with a note beside it; create it on first use."""
        if self._progress is None:
            return
        if what not in self._tasks:
            self._tasks[what] = self._progress.add_task(what, total=total, note=note)
        self._progress.update(self._tasks[what], completed=done, total=total, note=note, visible=done < total)


def _progress() -> Progress:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[note]}"),
        TimeRemainingColumn(),
    )
    return Progress(*columns, console=Console(stderr=True), transient=True)


def track(items: Iterable[T], what: str, total: int) -> Iterator[T]:
    """Iterate over ``items`` with a bar of ``total`` steps."""
    with ProgressBars() as bars:
        bars.report(what, 0, total)
        for done, item in enumerate(items, 1):
            yield item
            bars.report(what, done, total)
