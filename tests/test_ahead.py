"""Stages that run at the same time."""

from __future__ import annotations

from threading import Event

import pytest

from tsdsr.ahead import ahead


def test_a_stage_hands_on_errors_and_stops() -> None:
    def failing():
        yield 1
        raise ValueError("here")

    stop = Event()
    stage = ahead(ahead(failing(), 2, stop), 2, stop)
    assert next(stage) == 1
    with pytest.raises(ValueError, match="here"):
        list(stage)
    made = []

    def endless():
        while True:
            made.append(len(made))
            yield made[-1]

    stop = Event()
    stage = ahead(endless(), 3, stop)
    assert [next(stage) for _ in range(5)] == [0, 1, 2, 3, 4]
    stage.close()
    assert stop.is_set()
    assert len(made) <= 5 + 3 + 2
