"""Runs on a cluster in tests: what arrives, and what is recorded."""

from __future__ import annotations

import json
import sys
import threading
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.distributed import restorers
from tsdsr.distributed.archive import ArchiveListener, ArchiveSummary, upscale_archive
from tsdsr.distributed.cluster import ActorPool
from tsdsr.distributed.restoring import Restorer
from tsdsr.distributed.run_folder import earlier_runs, read_parts
from tsdsr.images.writing import WriteOptions
from tsdsr.pipeline.made_from import BatchSettings
from tsdsr.pipeline.options import RestoreOptions

SETTINGS = BatchSettings(None, RestoreOptions(2), WriteOptions())


class Heard(ArchiveListener):
    """Keeps what a run said; calls a function in a thread once so many pictures have a status."""

    def __init__(self, after: int = 0, then: Callable[[], None] | None = None) -> None:
        self.failures: list[str] = []
        self.notes: list[str] = []
        self._after, self._then = after, then
        self.thread: threading.Thread | None = None

    def note(self, text: str) -> None:
        self.notes.append(text)

    def failure(self, text: str) -> None:
        self.failures.append(text)

    def progress(self, what: str, done: int, total: int) -> None:
        if self._then is not None and what == "images" and done >= self._after:
            self.thread = threading.Thread(target=self._then)
            self.thread.start()
            self._then = None


def run(
    source: str,
    output: str,
    address: str,
    restorer: Restorer,
    heard: Heard | None = None,
    pool: ActorPool | None = None,
) -> ArchiveSummary:
    return upscale_archive(
        source, output, SETTINGS, address=address, pool=pool or ActorPool(2, 2), restorer=restorer, listener=heard
    )


def recorded(output: str) -> list[dict[str, Any]]:
    """The statuses of all runs."""
    parts = [part for earlier in earlier_runs(output) for part in earlier.statuses]
    return [row for table in read_parts("status", parts, print) for row in table.to_pylist()]


def recorded_inputs(output: str) -> Counter[str]:
    return Counter(Path(row["input"]).name for row in recorded(output))


if __name__ == "__main__":  # a driver that a test can kill: source, output, address, name of the restorer
    result = run(*sys.argv[1:4], getattr(restorers, sys.argv[4]))
    print(json.dumps(result.counts))
