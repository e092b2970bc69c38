"""Ctrl-C and the signals that end a process, as requests to stop after the current step."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

_SIGNALS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))


class RunInterrupted(KeyboardInterrupt):
    """A run was asked to stop, and has stopped with a checkpoint.

    Attributes:
        signum (int): the signal.
    """

    def __init__(self, signum: int) -> None:
        super().__init__(f"stopped by {signal.Signals(signum).name}")
        self.signum = signum


class ValidationStopped(Exception):  # noqa: N818  (not an error)
    """A validation was cut short because the run is to stop."""


class StopRequest:
    """Turn Ctrl-C, SIGTERM and SIGHUP into a request to stop after the step; a second Ctrl-C interrupts at once.

    A second SIGTERM changes nothing: launchers send it to processes that have had Ctrl-C.

    Args:
        on_request (callable): called once, on the request.
    """

    def __init__(self, on_request: Callable[[], None]) -> None:
        self.signum = 0
        self.on_request = on_request

    @property
    def requested(self) -> bool:
        return self.signum != 0

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Listen within the block. Outside the main thread Python allows no handlers, and signals are unchanged.

        An ignored SIGHUP stays ignored, as ``nohup`` wants.
        """
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {
            signum: signal.signal(signum, self._handle)
            for signum in _SIGNALS
            if signum == signal.SIGINT or signal.getsignal(signum) not in (signal.SIG_IGN, None)
        }
        try:
            yield
        finally:
            for signum, handler in before.items():
                signal.signal(signum, handler)

    def _handle(self, signum: int, frame: FrameType | None) -> None:
        if self.requested:
            if signum == signal.SIGINT == self.signum:
                raise KeyboardInterrupt
            return
        self.signum = signum
        self.on_request()


def ignore_interrupts(worker: int) -> None:
    """Ignore these signals in a data loading process: they are sent there too, but the trainer decides when to stop."""
    for signum in _SIGNALS:
        signal.signal(signum, signal.SIG_IGN)


@contextmanager
def interrupts_blocked() -> Iterator[None]:
    """Hold these signals back for a block of code that starts data loading processes.

    The processes inherit that, so that a signal to all cannot end one before :func:`ignore_interrupts` has run there.
    Windows has no such thing.
    """
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
