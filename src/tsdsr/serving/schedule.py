"""Which pictures are in work at the same time, and when the others will be."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from heapq import heappop, heappush

from tsdsr.errors import InvalidInputError
from tsdsr.pipeline.sr_pipeline import SRPipeline
from tsdsr.serving.job import FINAL, Job
from tsdsr.serving.settings import ServeSettings

_LONGEST_RETRY = 600.0


def check_workers(pipe: SRPipeline, settings: ServeSettings) -> None:
    """Check that a model restores as many pictures at the same time as the settings ask for.

    Raises:
        InvalidInputError: it restores one at a time, and the settings ask for several.
    """
    if settings.workers > 1 and not pipe.thread_safe:
        raise InvalidInputError(f"{settings.model} restores one picture at a time here: leave out --workers")


class Schedule:
    """The order of work: that of arrival, with limits for what is in work at the same time.

    The pictures in work have no more pixels together than one picture at the limits may have, so that memory for pixels
    does not grow with the workers. A picture that does not fit beside the others waits, and those behind it too.

    Args:
        settings (ServeSettings): limits.
    """

    def __init__(self, settings: ServeSettings) -> None:
        self._workers, self._most_pixels = settings.workers, settings.max_pixels + settings.max_result_pixels
        self._seconds_per_pixel = 0.0

    def may_start(self, job: Job, running: Iterable[Job]) -> bool:
        """Whether a job fits beside those that run."""
        return self._fits(job, [other.order.pixels_held for other in running])

    def _fits(self, job: Job, held: list[int]) -> bool:
        return not held or (len(held) < self._workers and sum(held) + job.order.pixels_held <= self._most_pixels)

    def learn(self, job: Job, seconds: float) -> None:
        """Note how long a picture took."""
        rate = seconds / max(1, job.order.pixels)
        self._seconds_per_pixel = rate if not self._seconds_per_pixel else 0.8 * self._seconds_per_pixel + 0.2 * rate

    def seconds_left(self, job: Job, running: Iterable[Job], waiting: Iterable[Job]) -> float | None:
        """Return in how many seconds a job is finished; None if that is not known, or past."""
        if job.state in FINAL or not (self._seconds_per_pixel or job.tiles_done):
            return None
        start = 0.0
        if job.state == "queued":
            start = next((start for other, start in self._starts(running, waiting) if other is job), 0.0)
        return round(start + job.rest(self._seconds_per_pixel), 1)

    def retry_after(self, running: Iterable[Job], waiting: Iterable[Job]) -> int:
        """Return in how many seconds a place is free: when the first picture that waits is started."""
        start = next((start for _, start in self._starts(running, waiting)), 0.0)
        return round(min(_LONGEST_RETRY, max(1.0, start)))

    def _starts(self, running: Iterable[Job], waiting: Iterable[Job]) -> Iterator[tuple[Job, float]]:
        """Yield the jobs that wait, and in how many seconds each is started."""
        now, in_work = 0.0, list[tuple[float, int]]()
        for job in running:
            heappush(in_work, (job.rest(self._seconds_per_pixel), job.order.pixels_held))
        for job in waiting:
            while not self._fits(job, [pixels for _, pixels in in_work]):
                now = max(now, heappop(in_work)[0])
            yield job, now
            heappush(in_work, (now + job.rest(self._seconds_per_pixel), job.order.pixels_held))
