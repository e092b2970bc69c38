"""A short run of benchmarks/fuzz_reader.py, in this process."""

from __future__ import annotations

import importlib.util
import sys
from functools import cache
from pathlib import Path
from types import ModuleType

SCRIPT = Path(__file__).resolve().parents[2] / "benchmarks" / "fuzz_reader.py"


@cache
def fuzz() -> ModuleType:
    spec = importlib.util.spec_from_file_location("fuzz_reader", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


def test_damaged_files_give_a_picture_or_an_error_of_ours(tmp_path: Path) -> None:
    outcomes = set()
    for case in fuzz().cases(250, seed=1):
        path = tmp_path / case.name
        path.write_bytes(case.content)
        outcome = fuzz().outcome(path, tmp_path)
        assert not outcome.startswith("FAILED"), f"{case.kind} {case.name}: {outcome}"
        outcomes.add(outcome)
        path.unlink()
    assert outcomes == {"read", "ImageReadError", "ImageTooLargeError"}
    assert not list(tmp_path.iterdir())
