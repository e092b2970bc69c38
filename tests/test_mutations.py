"""The faults of benchmarks/mutation.py still apply to the source."""

from __future__ import annotations

from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def test_each_fault_names_text_that_occurs_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    from mutations import FAULTS

    counts = {
        fault.what: (ROOT / "src" / "tsdsr" / fault.file).read_text(encoding="utf-8").count(fault.old)
        for fault in FAULTS
    }
    assert {what: count for what, count in counts.items() if count != 1} == {}
    assert len(counts) == len(FAULTS)
