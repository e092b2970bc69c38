"""Stages of a stream that run at the same time, a few items apart."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from queue import Empty, Full, Queue
from threading import Event, Thread
from typing import TypeVar

T = TypeVar("T")

_END = object()
_PATIENCE = 0.1


def ahead(items: Iterable[T], limit: int, stop: Event) -> Iterator[T]:
    """Iterate over ``items`` in a thread of its own, at most ``limit`` of them ahead.

    Args:
        items (iterable): is iterated in the thread; it may itself be such a stage.
        limit (int): largest number of items that wait.
        stop (Event): ends the thread once it is set, and is set when this iterator is closed or fails.

    Raises:
        BaseException: what iterating over ``items`` raised, after the items before it.
    """
    waiting: Queue[object] = Queue(limit)
    failures: list[BaseException] = []

    def put(item: object) -> bool:
        while not stop.is_set():
            try:
                waiting.put(item, timeout=_PATIENCE)
                return True
            except Full:
                continue
        return False

    def run() -> None:
        try:
            all(put(item) for item in items)
        except BaseException as error:
            failures.append(error)
        put(_END)

    thread = Thread(target=run, name="tsdsr-ahead", daemon=True)
    thread.start()
    try:
        while True:
            try:
                item = waiting.get(timeout=_PATIENCE)
            except Empty:
                if not stop.is_set():
                    continue
                item = _END
            if item is _END:
                break
            yield item  # type: ignore[misc]
        thread.join()
        if failures:
            raise failures[0]
    except BaseException:
        stop.set()
        raise
    finally:
        thread.join()
