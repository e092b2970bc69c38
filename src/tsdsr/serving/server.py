"""Run the web server until a signal stops it."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable
from contextlib import closing
from types import FrameType

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from tsdsr.pipeline.sr_pipeline import SRPipeline
from tsdsr.serving.app import create_app
from tsdsr.serving.job_queue import JobQueue
from tsdsr.serving.settings import ServeSettings
from tsdsr.web import bind, shown_address

logger = logging.getLogger(__name__)

MOST_CONNECTIONS = 500
_LAST_ANSWERS_SECONDS = 5
_FETCH_SECONDS = 5.0
"""Time that the clients of the last pictures have to fetch them."""


def serve(
    load: Callable[[], SRPipeline], settings: ServeSettings, on_ready: Callable[[str], None] | None = None
) -> None:
    """Serve until interrupted. The port is taken before the model is loaded.

    Args:
        load (callable): loads the model.
        settings (ServeSettings): address, limits and security.
        on_ready (callable | None): called with the URL of the page once it can be opened.

    Raises:
        InvalidInputError: the port is in use, or the host is not an address of this machine.
        TSDSRError: the model cannot be loaded, or the folder for temporary files cannot be written.
    """
    with closing(bind(settings.host, settings.port)) as listener:
        app = create_app(load(), settings)
        config = uvicorn.Config(
            app,
            http=_protocol(settings.read_timeout),
            ws="none",
            lifespan="on",
            access_log=False,  # it would contain the clients' addresses
            log_level="warning",
            server_header=False,
            limit_concurrency=MOST_CONNECTIONS,
            timeout_graceful_shutdown=_LAST_ANSWERS_SECONDS,
        )
        if on_ready is not None:  # the socket queues connections until the server accepts them
            on_ready(shown_address(settings.host, listener))
        _Server(config, app.state.queue, settings).run(sockets=[listener])


def _protocol(seconds: float) -> type[H11Protocol]:
    """Return uvicorn's protocol with a limit of time for the head of a request, which uvicorn lacks."""

    class Protocol(H11Protocol):
        _timer: asyncio.TimerHandle | None = None

        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
            super().connection_made(transport)
            self._wait_for_head()

        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            self._wait_for_head()

        def connection_lost(self, exc: Exception | None) -> None:
            super().connection_lost(exc)
            self._stop_waiting()

        def _wait_for_head(self) -> None:
            if self.cycle is not None and not self.cycle.response_complete:
                self._stop_waiting()
            elif self._timer is None:
                self._timer = self.loop.call_later(seconds, self.transport.close)

        def _stop_waiting(self) -> None:
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None

    return Protocol


class _Server(uvicorn.Server):
    """A server that finishes the pictures in work before it ends."""

    def __init__(self, config: uvicorn.Config, queue: JobQueue, settings: ServeSettings) -> None:
        super().__init__(config)
        self._queue, self._seconds = queue, settings.stop_seconds

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Stop: the first signal gracefully, a second one at once."""
        if self._captured_signals:
            super().handle_exit(sig, frame)
            return
        self._captured_signals.append(sig)
        threading.Thread(target=self._finish, daemon=True).start()

    def _finish(self) -> None:
        """Answer on, but take no work, until the pictures in work are finished and fetched."""
        last = self._queue.stop()
        if not self._queue.wait_until_idle(self._seconds):
            logger.warning("pictures that did not finish within %g s are cancelled", self._seconds)
        else:
            self._queue.wait_until_fetched(last, _FETCH_SECONDS)
        self.should_exit = True
