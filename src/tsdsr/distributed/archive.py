"""Restore an archive on a Ray cluster: planned, restored, recorded as the results come, continued after a failure."""

from __future__ import annotations

import re
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from queue import Empty, Full, Queue
from threading import Event, Thread
from typing import TYPE_CHECKING

from tsdsr import errors
from tsdsr.distributed.cluster import ActorPool, connected, require_ray
from tsdsr.distributed.watching import RoomWatch, require_room, room_for
from tsdsr.errors import ClusterError, TSDSRError
from tsdsr.images.listing import describe_skipped
from tsdsr.images.reading import DEFAULT_MAX_PIXELS
from tsdsr.pipeline.made_from import BatchSettings
from tsdsr.runtimes.open_restorer import ModelSource

if TYPE_CHECKING:
    import pyarrow as pa
    import ray.data

    from tsdsr.distributed.planning import ArchivePlan
    from tsdsr.distributed.restoring import Restorer, RestoreTask

_LOOK_SECONDS = 5.0
"""How often to look for room in the cluster while no result comes."""

_WAITING_BATCHES = 64
"""Batches of statuses that wait for the driver."""


@dataclass
class ArchiveSummary:
    """What became of an archive.

    Attributes:
        run (str): folder of the run's tables.
        counts (Counter): pictures by status: "done", "skipped", "failed", "killed".
        total (int): pictures of the inputs.
        seconds (float): time, the start of the cluster included.
    """

    run: str
    counts: Counter[str] = field(default_factory=Counter)
    total: int = 0
    seconds: float = 0.0

    @property
    def failed(self) -> int:
        """Pictures without a result that were tried."""
        return self.counts["failed"] + self.counts["killed"]

    @property
    def left(self) -> int:
        """Pictures that were not reached; the next run makes them."""
        return self.total - self.counts.total()


class ArchiveListener:
    """What a caller hears of a run. The methods do nothing; a subclass overrides those it wants."""

    def note(self, text: str) -> None:
        """Take a sentence about the run or about what was converted or dropped in a picture."""

    def failure(self, text: str) -> None:
        """Take a sentence about a picture that was not restored."""

    def progress(self, what: str, done: int, total: int) -> None:
        """Take how many things of a kind are done; while the total is unknown it is 0."""


def upscale_archive(
    inputs: str | Sequence[str],
    output: str,
    settings: BatchSettings,
    source: ModelSource | None = None,
    *,
    address: str | None = None,
    pool: ActorPool | None = None,
    suffix: str | None = None,
    overwrite: bool = False,
    max_pixels: int | None = DEFAULT_MAX_PIXELS,
    restorer: Restorer | None = None,
    listener: ArchiveListener | None = None,
) -> ArchiveSummary:
    """Restore the pictures of folders, buckets, patterns and lists on a cluster.

    The same call again continues: what is recorded as done is skipped. All statuses are in ``output/.tsdsr-runs``.

    Args:
        inputs (str or sequence of str): see :func:`~tsdsr.distributed.planning.plan_archive`.
        output (str): folder or URL; all machines must see it, and the inputs.
        settings (BatchSettings): how pictures are restored and stored; the model's hash is filled in here.
        source (ModelSource | None): the model and where it runs; default: `mini`.
        address (str | None): see :func:`~tsdsr.distributed.cluster.connected`.
        pool (ActorPool | None): the processes; default: one for each CPU.
        suffix (str | None): format of the results, such as ".png"; default: each input's.
        overwrite (bool): replace results that exist.
        max_pixels (int | None): inputs with more pixels are refused.
        restorer (callable | None): in place of the model, see :func:`~tsdsr.distributed.operator.restore`.
        listener (ArchiveListener | None): hears of failures and progress.

    Returns:
        ArchiveSummary: counts. If it is interrupted, the exception has it as its ``summary``.

    Raises:
        MissingDependencyError: the extra ``ray`` is not installed.
        ClusterError: no cluster, or no room in it, or it failed; the statuses until then are stored.
        ModelError: the model cannot be loaded.
        TSDSRError: the inputs cannot be listed, or the output not be written.
    """
    require_ray()
    from tsdsr.distributed.operator import make_task
    from tsdsr.distributed.planning import plan_archive

    started, pool = time.perf_counter(), pool or ActorPool()
    listener = listener or ArchiveListener()
    task = make_task(source or ModelSource(), settings, max_pixels, pool, restorer)
    plan = plan_archive(
        [inputs] if isinstance(inputs, str) else list(inputs), output, task.settings, suffix, overwrite,
        listener.failure, listener.note, lambda what, count: listener.progress(what, count, 0),
    )  # fmt: skip
    if plan.left_out:
        listener.note(f"left out: {describe_skipped(plan.left_out)}")
    return _execute(plan, task, pool, address, listener, started)


def _execute(
    plan: ArchivePlan,
    task: RestoreTask,
    pool: ActorPool,
    address: str | None,
    listener: ArchiveListener,
    started: float,
) -> ArchiveSummary:
    """Restore what is planned, if anything is, and end the run's folder."""
    summary = ArchiveSummary(plan.run.url, total=plan.skipped + plan.failed + plan.pending)
    summary.counts.update({"skipped": plan.skipped, "failed": plan.failed})
    try:
        if plan.pending:
            with connected(address) as own:
                try:
                    _run(plan, task, pool, own, summary, listener)
                finally:
                    plan.run.flush()  # before the connection closes: that may end this process
        plan.run.finish(dict(summary.counts))
    except BaseException as error:
        error.summary = summary  # type: ignore[attr-defined]
        raise
    finally:
        summary.seconds = time.perf_counter() - started
    return summary


def _run(
    plan: ArchivePlan,
    task: RestoreTask,
    pool: ActorPool,
    own: bool,
    summary: ArchiveSummary,
    listener: ArchiveListener,
) -> None:
    from tsdsr.distributed.restoring import unpack

    require_room(pool, not own, listener.note)
    with _quiet_context():
        for table in _statuses(plan, task, pool):
            statuses = unpack(table)
            plan.run.add(statuses)
            for status in statuses:
                summary.counts[status["status"]] += 1
                if status["error"]:
                    listener.failure(status["error"])
                for notice in status["notices"]:
                    listener.note(f"{status['input']}: {notice}")
            listener.progress("images", summary.counts.total(), summary.total)


def _statuses(plan: ArchivePlan, task: RestoreTask, pool: ActorPool) -> Iterator[pa.Table]:
    """Execute a plan segment by segment, and yield the blocks of statuses as they come."""
    from tsdsr.distributed.operator import apply
    from tsdsr.distributed.plan_reader import next_segment, read_batches

    left: Sequence[str] = plan.parts
    while left:
        room = room_for(pool)
        first = max(pool.least, min(room, pool.most or room, plan.pending))
        parts, left = next_segment(left, first)
        results = apply(read_batches(parts), task, replace(pool, first=first), rows=1)
        yield from _arriving(results, RoomWatch(pool).check)


@contextmanager
def _quiet_context() -> Iterator[None]:
    """Set what Ray Data does and prints for the datasets of a block of code."""
    from ray.data import DataContext

    context = DataContext.get_current().copy()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    context.enable_auto_log_stats = False
    context.target_max_block_size = 1  # bytes: each row of read_batches() is a block
    context.execution_no_progress_timeout_s = -1  # a batch of large pictures takes hours on CPUs; see RoomWatch
    context.max_errored_blocks = 0  # statuses hold the errors of files; anything else ends the run
    with DataContext.current(context):
        yield


def _arriving(results: ray.data.Dataset, look: Callable[[], None]) -> Iterator[pa.Table]:
    """Yield the blocks of a dataset as they come; call ``look`` every few seconds while none does.

    A thread waits for Ray, so that Ctrl-C and ``look`` are heard at any time. It ends with the connection.

    Raises:
        TSDSRError: what went wrong, in one sentence.
    """
    waiting: Queue[object] = Queue(_WAITING_BATCHES)
    closed = Event()

    def put(item: object) -> None:
        while not closed.is_set():
            try:
                waiting.put(item, timeout=0.5)
                return
            except Full:
                continue

    def fetch() -> None:
        try:
            for table in results.iter_batches(batch_size=None, batch_format="pyarrow"):
                put(table)
                if closed.is_set():
                    return
            put(None)
        except BaseException as error:
            put(error)

    Thread(target=fetch, name="tsdsr-statuses", daemon=True).start()
    try:
        while True:
            try:
                item = waiting.get(timeout=_LOOK_SECONDS)
            except Empty:
                look()
                continue
            if item is None:
                return
            if isinstance(item, BaseException):
                raise as_one_sentence(item) from item
            yield item
    finally:
        closed.set()


def as_one_sentence(error: BaseException) -> TSDSRError:
    """Return Ray's error as one of this package: what a process of the run said, or Ray's own last line."""
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, TSDSRError):
            return seen
        seen = getattr(seen, "cause", None) or seen.__cause__
    text = str(error)
    if said := re.findall(r"^tsdsr\.errors\.(\w+): (.+)$", text, re.MULTILINE):
        name, sentence = said[-1]
        kind: type[TSDSRError] = getattr(errors, name, ClusterError)
        return kind(sentence)
    if missing := re.search(r"No module named '(\w+)", text):
        return ClusterError(
            f"a machine of the cluster has no {missing[1]}; install the same version of tsdsr and its extras on all"
        )
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return ClusterError(f"the cluster failed ({lines[-1] if lines else type(error).__name__})")
