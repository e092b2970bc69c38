from __future__ import annotations

import pytest

from tsdsr.runtimes import graph_calls


@pytest.mark.parametrize(("wanted", "expected"), [("1", 1), ("64", 4), ("0", 4), ("many", 4), ("", 4)])
def test_threads_are_no_more_than_cores(wanted: str, expected: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(graph_calls, "core_count", lambda: 4)
    monkeypatch.setenv("OMP_NUM_THREADS", wanted)
    assert graph_calls.default_threads() == expected
