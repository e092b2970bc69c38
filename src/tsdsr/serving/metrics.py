"""What the server counts, in the text format of Prometheus."""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4

CONTENT_TYPE = CONTENT_TYPE_PLAIN_0_0_4

_REQUEST_BUCKETS = (0.005, 0.02, 0.1, 0.5, 2, 10, 60, 300, 1200)
_JOB_BUCKETS = (0.1, 0.5, 1, 2, 5, 10, 30, 60, 120, 300, 600)


class Metrics:
    """Counters of one server, in a registry of their own.

    ::

        tsdsr_http_requests_total{method, route, status}    tsdsr_http_request_seconds{route}
        tsdsr_jobs_total{outcome}    tsdsr_job_seconds    tsdsr_tiles_total
        tsdsr_queue_length    tsdsr_disk_bytes    process_resident_memory_bytes and others of the process
    """

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self.requests = Counter(
            "tsdsr_http_requests", "Requests.", ["method", "route", "status"], registry=self.registry
        )
        self.request_seconds = Histogram(
            "tsdsr_http_request_seconds",
            "Seconds from a request to the end of its answer.",
            ["route"],
            buckets=_REQUEST_BUCKETS,
            registry=self.registry,
        )
        self.jobs = Counter("tsdsr_jobs", "Jobs by outcome.", ["outcome"], registry=self.registry)
        self.job_seconds = Histogram(
            "tsdsr_job_seconds", "Seconds that a job was in work.", buckets=_JOB_BUCKETS, registry=self.registry
        )
        self.tiles = Counter("tsdsr_tiles", "Tiles restored.", registry=self.registry)
        for outcome in ("done", "failed", "cancelled", "timeout", "refused"):
            self.jobs.labels(outcome)

    def observe(self, waiting: Callable[[], int], disk: Callable[[], int]) -> None:
        """Show the length of a queue and the bytes of its files from now on."""
        queue = Gauge("tsdsr_queue_length", "Pictures that wait.", registry=self.registry)
        queue.set_function(waiting)
        Gauge("tsdsr_disk_bytes", "Bytes of uploads and results.", registry=self.registry).set_function(disk)

    def outcome(self, outcome: str) -> None:
        """Count a job that has ended, or was refused."""
        self.jobs.labels(outcome).inc()

    def request(self, method: str, route: str, status: int, seconds: float) -> None:
        """Count a request."""
        self.requests.labels(method, route, str(status)).inc()
        self.request_seconds.labels(route).observe(seconds)

    def text(self) -> bytes:
        """Return all figures."""
        return generate_latest(self.registry)
