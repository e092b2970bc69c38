"""Answers that last: files, archives, events, and the wait for a job."""

from __future__ import annotations

import asyncio
import json
import time
import zipfile
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack, asynccontextmanager, suppress
from pathlib import Path
from typing import IO, Any, cast

from starlette.requests import Request
from starlette.responses import FileResponse
from starlette.types import Receive, Scope, Send

from tsdsr.serving.job import FINAL, Job
from tsdsr.serving.job_queue import JobQueue
from tsdsr.serving.problems import ProblemError
from tsdsr.serving.schemas import JobView

_EVENT_SECONDS = 0.1
"""Shortest time between two events of a job."""
_ALIVE_SECONDS = 10.0
"""Time after which a comment is sent, so that proxies keep the connection and a client that went away is noticed."""
_PIECE = 2**18


@asynccontextmanager
async def changes(queue: JobQueue, job: Job) -> AsyncIterator[asyncio.Event]:
    """Yield an event that is set at each change of a job. It is set at first."""
    loop, event = asyncio.get_running_loop(), asyncio.Event()
    event.set()

    def listener() -> None:
        with suppress(RuntimeError):  # the loop has ended
            loop.call_soon_threadsafe(event.set)

    with queue.listening(job, listener):
        yield event


async def ended(request: Request, queue: JobQueue, job: Job) -> None:
    """Wait until a job has ended. It is cancelled if the client goes away, and given up after its time.

    Raises:
        ProblemError: there is no result.
    """
    gone = asyncio.create_task(_gone(request))
    until = time.monotonic() + queue.settings.timeout
    try:
        async with changes(queue, job) as changed:
            while job.state not in FINAL and not gone.done() and time.monotonic() < until:
                changed.clear()
                waiting = asyncio.create_task(changed.wait())
                left = max(0.0, until - time.monotonic())
                await asyncio.wait({gone, waiting}, timeout=left, return_when=asyncio.FIRST_COMPLETED)
                waiting.cancel()
        if gone.done():
            queue.cancel(job)
        else:
            queue.give_up(job)  # nothing happens to one that has ended
    finally:
        gone.cancel()
    if job.error is not None:
        raise job.error


async def _gone(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


async def events(queue: JobQueue, job: Job) -> AsyncIterator[str]:
    """Yield the states of a job as server-sent events, until the final one."""
    async with changes(queue, job) as changed:
        while True:
            try:
                await asyncio.wait_for(changed.wait(), _ALIVE_SECONDS)
            except asyncio.TimeoutError:
                yield ": still here\n\n"
                continue
            changed.clear()
            view = JobView(**queue.view(job))
            yield f"event: job\ndata: {view.model_dump_json()}\n\n"
            if view.state in FINAL:
                return
            await asyncio.sleep(_EVENT_SECONDS)


class ResultResponse(FileResponse):
    """The result of a job; its files stay until the answer is sent.

    Args:
        queue (JobQueue): the queue.
        job (Job): a finished job.
        inline (bool): let a browser show it instead of saving it.
        on_end (callable | None): called once the answer is sent, or the client has gone.
    """

    def __init__(
        self, queue: JobQueue, job: Job, inline: bool = False, on_end: Callable[[], None] | None = None
    ) -> None:
        self._queue, self._job, self._on_end = queue, job, on_end
        super().__init__(
            finished_file(job),
            media_type=job.order.media_type,
            filename=job.order.result_name,
            content_disposition_type="inline" if inline else "attachment",
            headers={"TSDSR-Notices": json.dumps(job.notices)},
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            with self._queue.reading(self._job):
                finished_file(self._job)
                self._job.fetched = True
                await super().__call__(scope, receive, send)
        finally:
            if self._on_end is not None:
                self._on_end()


def finished_file(job: Job) -> Path:
    """Return the path of a job's result.

    Raises:
        ProblemError: there is none.
    """
    if job.state not in FINAL:
        raise ProblemError("not-finished", "The job is not finished; wait for its events.")
    if job.result is None:
        reason = "it has no result" if job.error is None else job.error.detail
        prefix = f"{job.order.name}: "
        raise ProblemError("no-result", prefix + reason.removeprefix(prefix))
    return job.result


def archive(queue: JobQueue, jobs: list[Job]) -> Iterator[bytes]:
    """Yield the results of jobs as one ZIP file, piece by piece. The names are unique, the pictures as they are."""
    sink, taken = _Sink(), set[str]()
    with ExitStack() as readers, zipfile.ZipFile(cast(IO[bytes], sink), "w", zipfile.ZIP_STORED) as contents:
        for job in jobs:
            readers.enter_context(queue.reading(job))
            job.fetched = True
        for job in jobs:
            if job.result is None:
                continue
            info = zipfile.ZipInfo.from_file(job.result, _unique(job.order.result_name, taken))
            with contents.open(info, "w") as entry, job.result.open("rb") as file:
                while piece := file.read(_PIECE):
                    entry.write(piece)
                    yield sink.take()
        contents.close()
        yield sink.take()


def _unique(name: str, taken: set[str]) -> str:
    path, number = Path(name), 1
    while name.casefold() in taken:
        number += 1
        name = f"{path.stem}-{number}{path.suffix}"
    taken.add(name.casefold())
    return name


class _Sink:
    """A file that cannot seek and keeps what is written until it is taken."""

    def __init__(self) -> None:
        self._pieces: list[bytes] = []

    def write(self, data: Any) -> int:
        self._pieces.append(bytes(data))
        return len(data)

    def flush(self) -> None:
        pass

    def take(self) -> bytes:
        taken = b"".join(self._pieces)
        self._pieces.clear()
        return taken
