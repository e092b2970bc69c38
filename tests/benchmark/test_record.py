"""benchmarks/record.py: what a measurement prints becomes a record that the checker of figures reads."""

from __future__ import annotations

import importlib
from pathlib import Path
from types import ModuleType

import pytest

tomllib = pytest.importorskip("tomllib", reason="Python 3.10 has no TOML reader")

ROOT = Path(__file__).parents[2]


@pytest.fixture
def record(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    return importlib.import_module("record")


def test_json_and_tables_become_values(record: ModuleType) -> None:
    table = "ten runs\n| run | start, s | pictures/s |\n|---|---|---|\n| one actor | 9.0 | 1,200 |\n| two | - | 2.5 |\n"
    assert record.values_in(table) == {"one_actor": {"start_s": 9.0, "pictures_s": 1200}, "two": {"pictures_s": 2.5}}
    assert record.values_in('{"size": 512, "peak_mb": 600}\n{"size": 1024}\n') == {
        "line_1": {"size": 512, "peak_mb": 600},
        "line_2": {"size": 1024},
    }
    assert record.values_in('{\n "ratio": 2.2\n}') == {"ratio": 2.2}


def test_a_record_says_command_hardware_and_versions(record: ModuleType) -> None:
    text = record.record(
        "a run", "benchmarks/memory.py", "python benchmarks/memory.py", {"A run": {"total, s": [0.5, 1]}}
    )
    found = tomllib.loads(text)
    assert found["values"] == {"a_run": {"total_s": [0.5, 1]}}
    assert found["command"] == "python benchmarks/memory.py"
    assert "cores of" in found["hardware"]
    assert "python" in found["versions"]
