"""The worker: restores pictures of the queue, one after the other."""

from __future__ import annotations

import logging
import threading
import time
from functools import partial

from tsdsr.errors import TSDSRError
from tsdsr.images.encoded import EncodedImage
from tsdsr.memory import shared_memory
from tsdsr.pipeline.batch import restore_file
from tsdsr.pipeline.picture_restorer import picture_restorer
from tsdsr.pipeline.sr_pipeline import SRPipeline
from tsdsr.serving.job import FINAL, Job
from tsdsr.serving.job_queue import JobQueue
from tsdsr.serving.problems import ProblemError, problem_of

logger = logging.getLogger(__name__)


class _GivenUpError(Exception):
    """Ends a restoration at its next tile."""


class Worker:
    """A thread that restores. Pictures are decoded here only, so that memory holds one for each worker.

    Args:
        pipe (SRPipeline): the model.
        queue (JobQueue): where the jobs come from.
    """

    def __init__(self, pipe: SRPipeline, queue: JobQueue) -> None:
        self._pipe, self._queue = pipe, queue
        self._thread = threading.Thread(target=self._work, daemon=True)

    def start(self) -> None:
        """Start to work."""
        self._thread.start()

    def join(self, seconds: float) -> None:
        """Wait until the thread has ended, once the queue is closed."""
        if self._thread.is_alive():
            self._thread.join(seconds)

    def _work(self) -> None:
        with shared_memory(self._queue.settings.workers):
            while (job := self._queue.next()) is not None:
                try:
                    self._run(job)
                except Exception:  # nobody takes this worker's place
                    logger.exception("a job failed")
                    self._queue.fail(job, ProblemError("internal-error", "The server failed; its log says why."))
                finally:
                    self._queue.rest(job)

    def _run(self, job: Job) -> None:
        queue, order, options = self._queue, job.order, job.order.options
        target = queue.spool.new_path(f".{order.result_format}")
        try:
            self._check(job)
            on_tile = partial(self._on_tile, job)
            restore = picture_restorer(self._pipe, options.restore_options(), options.seed, options.icc, on_tile)
            source = EncodedImage(order.name, order.source)
            notices = restore_file(source, target, restore, queue.settings.max_pixels, options.write_options())
            queue.spool.count(target)
            queue.make_room(0)
        except _GivenUpError:
            queue.spool.remove(target)
        except Exception as error:
            queue.spool.remove(target)
            problem = error if isinstance(error, ProblemError) else problem_of(error)
            if not isinstance(error, TSDSRError | ProblemError):
                logger.exception("a picture could not be restored")
            problem.detail = problem.detail.replace(str(target), order.result_name)
            queue.fail(job, problem)
        else:
            queue.finish(job, target, notices)

    def _on_tile(self, job: Job, done: int, total: int) -> None:
        self._queue.metrics.tiles.inc()
        self._check(job)
        self._queue.progress(job, done, total)

    def _check(self, job: Job) -> None:
        """End the work on a job that was cancelled or takes too long."""
        if job.state in FINAL:
            raise _GivenUpError
        if job.deadline is not None and time.monotonic() > job.deadline:
            raise self._queue.timeout_problem()
