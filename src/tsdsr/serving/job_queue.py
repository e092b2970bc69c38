"""The queue: pictures wait for the workers, and results are kept for a while."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tsdsr.pipeline.sr_pipeline import SRPipeline
from tsdsr.serving.job import FINAL, Job, Order, State
from tsdsr.serving.metrics import Metrics
from tsdsr.serving.problems import ProblemError
from tsdsr.serving.schedule import Schedule, check_workers
from tsdsr.serving.settings import ServeSettings
from tsdsr.serving.spool import Spool

MOST_KEPT = 2000
"""Finished jobs that are remembered."""


class JobQueue:
    """Jobs in the order of their arrival. All methods may be called from any thread.

    Args:
        pipe (SRPipeline): the model that all jobs share, for checks.
        settings (ServeSettings): limits.
        metrics (Metrics | None): what is counted.

    Raises:
        InvalidInputError: see :func:`~tsdsr.serving.schedule.check_workers`.
        FileWriteError: see :class:`Spool`.
    """

    def __init__(self, pipe: SRPipeline, settings: ServeSettings, metrics: Metrics | None = None) -> None:
        self.pipe, self.settings, self.metrics = pipe, settings, metrics or Metrics()
        check_workers(pipe, settings)
        self.schedule = Schedule(settings)
        self.spool = Spool(settings.folder)
        self._changed = threading.Condition()
        self._jobs: dict[str, Job] = {}
        self._waiting: deque[Job] = deque()
        self._running: list[Job] = []
        self._places = 0
        self._stopping = self._closed = False
        self._tidier = threading.Thread(target=self._tidy, daemon=True)
        self.metrics.observe(lambda: len(self._waiting), lambda: self.spool.used)

    def start(self) -> None:
        """Let results expire from now on."""
        self._tidier.start()

    # Admission

    @property
    def stopping(self) -> bool:
        """Whether no further jobs are taken."""
        return self._stopping

    @contextmanager
    def place(self) -> Iterator[None]:
        """Hold a place in the queue, so that an upload is not received in vain.

        Raises:
            ProblemError: the queue is full, or the server is stopping.
        """
        with self._changed:
            if self._stopping:
                raise stopping_problem()
            if len(self._waiting) + self._places >= self.settings.queue_size:
                self.metrics.outcome("refused")
                wait = self.schedule.retry_after(self._running, self._waiting)
                raise ProblemError(
                    "queue-full",
                    f"{self.settings.queue_size} pictures are already waiting; try again in about {wait} s.",
                    {"Retry-After": str(wait)},
                )
            self._places += 1
        try:
            yield
        finally:
            with self._changed:
                self._places -= 1

    def submit(self, order: Order, waits_for_client: bool = False) -> Job:
        """Add a job. The caller holds a place.

        Raises:
            ProblemError: the server is stopping.
        """
        job = Job(order, waits_for_client=waits_for_client)
        if waits_for_client:
            job.deadline = time.monotonic() + self.settings.timeout
        with self._changed:
            if self._stopping:
                raise stopping_problem()
            self._jobs[job.id] = job
            self._waiting.append(job)
            self._changed.notify_all()
        return job

    def make_room(self, size: int) -> None:
        """Let the oldest finished jobs expire until a number of bytes fits on the disk.

        Raises:
            ProblemError: it does not fit.
        """
        with self._changed:
            for job in list(self._jobs.values()):
                if self.spool.used + size <= self.settings.max_disk_bytes:
                    return
                if job.state in FINAL and not job.readers:
                    self._expire(job)
        if self.spool.used + size > self.settings.max_disk_bytes:
            raise ProblemError(
                "storage-full",
                "The pictures being processed take up all the space; try again later.",
                {"Retry-After": "10"},
            )

    # Access

    def find(self, id: str) -> Job:
        """Return a job.

        Raises:
            ProblemError: there is none with this id.
        """
        with self._changed:
            job = self._jobs.get(id)
        if job is None or job.forgotten:
            raise ProblemError("unknown-job", "No job has this id, or it was forgotten.")
        return job

    def in_work(self) -> tuple[list[Job], int]:
        """Return the running jobs, in the order of their start, and how many wait."""
        with self._changed:
            return list(self._running), len(self._waiting)

    def view(self, job: Job) -> dict[str, Any]:
        """Return what clients see of a job."""
        with self._changed:
            position = self._waiting.index(job) if job.state == "queued" and job in self._waiting else None
            return job.view(position, self.schedule.seconds_left(job, self._running, self._waiting))

    @contextmanager
    def reading(self, job: Job) -> Iterator[None]:
        """Keep the files of a job while they are read."""
        with self._changed:
            job.readers += 1
        try:
            yield
        finally:
            with self._changed:
                job.readers -= 1
                self._changed.notify_all()
                if job.forgotten and not job.readers:
                    self._forget(job)

    @contextmanager
    def listening(self, job: Job, listener: Callable[[], None]) -> Iterator[None]:
        """Call a function at each change of a job. It must be quick, and may be called from any thread."""
        with self._changed:
            job.listeners.append(listener)
        try:
            yield
        finally:
            with self._changed:
                job.listeners.remove(listener)

    def cancel(self, job: Job) -> None:
        """End a job that waits or runs; the restoration ends at its next tile."""
        self._leave(job, "cancelled", ProblemError("cancelled", "The job was cancelled."))

    def give_up(self, job: Job) -> None:
        """End a job that takes too long."""
        self._leave(job, "failed", self.timeout_problem())

    def _leave(self, job: Job, state: State, error: ProblemError) -> None:
        with self._changed:
            if job in self._waiting:
                self._waiting.remove(job)
                self._tell_waiting()
                self._changed.notify_all()
            self._end(job, state, error)

    def forget(self, job: Job) -> None:
        """Remove a job with its files; end it first."""
        self.cancel(job)
        with self._changed:
            job.forgotten = True
            self._changed.notify_all()
            if not job.readers:
                self._forget(job)

    # End

    def stop(self) -> list[Job]:
        """Take no further jobs. What waits is told; what runs goes on, and is returned."""
        with self._changed:
            self._stopping = True
            for job in list(self._waiting):
                self._end(job, "cancelled", stopping_problem())
            self._waiting.clear()
            self._changed.notify_all()
            return list(self._running)

    def wait_until_idle(self, seconds: float) -> bool:
        """Wait until nothing runs; return whether that is so."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._running, seconds)

    def wait_until_fetched(self, jobs: Collection[Job], seconds: float) -> bool:
        """Wait until the results of finished jobs have been sent; return whether that is so."""

        def fetched() -> bool:
            return all(job.forgotten or (job.fetched and not job.readers) for job in jobs)

        with self._changed:
            return self._changed.wait_for(fetched, seconds)

    def close(self) -> None:
        """Stop; end what runs at its next tile. The spool is closed by the caller, once the workers have ended."""
        self.stop()
        with self._changed:
            self._closed = True
            for job in self._running:
                self._end(job, "cancelled", stopping_problem())
            self._changed.notify_all()
        if self._tidier.is_alive():
            self._tidier.join()

    # For the workers

    def next(self) -> Job | None:
        """Wait for a job that may start, and start it; None once the queue is closed."""
        with self._changed:
            self._changed.wait_for(lambda: self._closed or self._may_start())
            if self._closed:
                return None
            job = self._waiting.popleft()
            self._running.append(job)
            job.state, job.started = "running", time.time()
            if job.deadline is None:
                job.deadline = time.monotonic() + self.settings.timeout
            self._tell(job)
            self._tell_waiting()
        return job

    def progress(self, job: Job, done: int, total: int) -> None:
        """Record the tiles of a job that are finished."""
        with self._changed:
            job.tiles_done, job.tiles_total = done, total
            self._tell(job)

    def finish(self, job: Job, result: Path, notices: tuple[str, ...]) -> None:
        """Record the result of a job, unless the job was cancelled meanwhile."""
        with self._changed:
            if job.state in FINAL:
                self.spool.remove(result)
                return
            job.result, job.result_bytes, job.notices = result, result.stat().st_size, notices
            self.schedule.learn(job, time.time() - (job.started or time.time()))
            self._end(job, "done")

    def fail(self, job: Job, error: ProblemError) -> None:
        """Record why a job has no result."""
        with self._changed:
            self._end(job, "failed", error)

    def rest(self, job: Job) -> None:
        """Say that a job is no longer in work, whatever became of it."""
        with self._changed:
            self._running.remove(job)
            self._changed.notify_all()

    def timeout_problem(self) -> ProblemError:
        """Return the problem of a job that takes too long."""
        return ProblemError(
            "timeout", f"The picture was not ready within {self.settings.timeout:g} s; choose a smaller scale."
        )

    def _tidy(self) -> None:
        """Let results expire, and forget the oldest jobs."""
        with self._changed:
            while not self._changed.wait_for(lambda: self._closed, timeout=min(1.0, self.settings.result_seconds)):
                now = time.time()
                finished = [job for job in self._jobs.values() if job.expires is not None and not job.readers]
                for job in finished:
                    if job.expires is not None and now > job.expires + self.settings.result_seconds:
                        self._forget(job)
                    elif job.expires is not None and now > job.expires:
                        self._expire(job)
                for job in finished[: max(0, len(finished) - MOST_KEPT)]:
                    self._forget(job)

    # Under the lock

    def _may_start(self) -> bool:
        return bool(self._waiting) and self.schedule.may_start(self._waiting[0], self._running)

    def _end(self, job: Job, state: State, error: ProblemError | None = None) -> None:
        if job.state in FINAL:
            return
        job.state, job.error, job.finished = state, error, time.time()
        job.expires = job.finished + self.settings.result_seconds
        self.metrics.outcome("timeout" if error is not None and error.name == "timeout" else state)
        if job.started is not None:
            self.metrics.job_seconds.observe(job.finished - job.started)
        job.ended.set()
        self._tell(job)

    def _expire(self, job: Job) -> None:
        """Delete the files of a finished job, and remember that there were some."""
        self.spool.remove(job.order.source, job.result)
        if job.result is not None:
            job.result = None
            job.error = ProblemError("no-result", "The result has expired.")
            self._tell(job)

    def _forget(self, job: Job) -> None:
        self.spool.remove(job.order.source, job.result)
        self._jobs.pop(job.id, None)

    def _tell(self, job: Job) -> None:
        for listener in job.listeners:
            listener()

    def _tell_waiting(self) -> None:
        for job in self._waiting:
            self._tell(job)


def stopping_problem() -> ProblemError:
    """Return the problem of a server that is told to stop."""
    return ProblemError("stopping", "The server is stopping; send the picture again later.", {"Retry-After": "30"})
