"""Signals that wait for the end of a block of code."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

_SIGNALS = ("SIGINT", "SIGTERM", "SIGHUP")


@contextmanager
def signals_wait() -> Iterator[None]:
    """Deliver a signal after a block of code that no exception may leave half done; a second one is delivered at once.

    Handlers that the block sets are taken back. Ignored signals stay ignored. Outside the main thread Python allows no
    handlers, and signals are unchanged.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    waiting: list[int] = []
    numbers = [getattr(signal, name) for name in _SIGNALS if hasattr(signal, name)]
    handlers = {number: signal.getsignal(number) for number in numbers}

    def restore() -> None:
        for number, handler in handlers.items():
            if handler is not None:  # not set from Python
                signal.signal(number, handler)

    def wait(number: int, _: object) -> None:
        waiting.append(number)
        if len(waiting) > 1:
            restore()
            waiting.clear()
            signal.raise_signal(number)

    for number, handler in handlers.items():
        if handler not in (signal.SIG_IGN, None):
            signal.signal(number, wait)
    try:
        yield
    finally:
        restore()
    for number in waiting:
        signal.raise_signal(number)
