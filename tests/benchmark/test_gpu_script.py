"""benchmarks/gpu.py: its parts run with tiny networks, a run that is cut off keeps what it has, and goes on."""

from __future__ import annotations

import importlib
import json
import time
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

from tsdsr.models import zoo

ROOT = Path(__file__).parents[2]


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    return importlib.import_module("gpu")


def part(gpu: ModuleType, name: str) -> Any:
    return next(found for found in gpu.PARTS if found.name == name)


class Fake:
    """Stands for the process of a part."""

    log: list[str]
    wrong: dict[str, str]

    def __init__(self, part: Any) -> None:
        self.part, self.name = part, part.name
        self.log.append(f"start {self.name}")

    def go(self) -> None:
        self.log.append(f"go {self.name}")

    def wait(self, seconds: float) -> str:
        self.log.append(f"wait {self.name}")
        return self.wrong.get(self.name, "")

    def end(self) -> None:
        self.log.append(f"end {self.name}")


@pytest.mark.filterwarnings("default")
def test_parts_run_with_tiny_networks(gpu: ModuleType, tmp_path: Path) -> None:
    """Those of times, memory, training and `mini`, without processes; the tables hold what they found."""
    table = zoo.SPECS
    names = ("sd3-released", "sd3", "flux2-klein", "mini-bf16", "sd21-tiles")
    gpu.run_all([part(gpu, n) for n in names], lambda p: gpu.Here(p, tmp_path), time.monotonic() + 100)
    results = {p.name: gpu.load(tmp_path, p) for p in gpu.PARTS}
    assert [n for n in names if not results[n].get("complete")] == []
    assert zoo.SPECS is table
    assert results["sd3"]["folded"]
    assert results["sd3"]["operations"]["denoise"] < results["sd3-released"]["operations"]["denoise"]
    assert {"eager", "compiled", "whole_ms", "tile_memory"} <= results["flux2-klein"].keys()
    text = gpu.report(results, rehearsal=True)
    for row in ("| SD3, the released way", "| SD3 bf16, folded, compiled", "| FLUX.2 klein bf16", "| torch bf16 | 64²"):
        assert row in text
    assert "- tests: not run" in text


def test_a_part_in_its_own_process_stores_its_figures(gpu: ModuleType, tmp_path: Path) -> None:
    process = gpu.Process(part(gpu, "mini-tiles"), tmp_path, rehearse=True)
    process.go()
    assert process.wait(120) == ""
    found = json.loads((tmp_path / "mini-tiles.json").read_text())
    assert found["complete"]
    assert found["tile_memory"]["table_bytes_per_pixel"] == zoo.MINI.tile_bytes / 2


def test_a_part_without_end_is_stopped_and_the_rest_goes_on(gpu: ModuleType, tmp_path: Path) -> None:
    process = gpu.Process(part(gpu, "mini-tiles"), tmp_path, rehearse=True)  # waits for go()
    assert "stopped" in process.wait(0.2)
    found = gpu.load(tmp_path, process.part)
    assert not found["complete"]
    assert "stopped" in found["error"]
    Fake.log, Fake.wrong, lines = [], {"sd3": "ended"}, []
    parts = [part(gpu, name) for name in ("predict-sd3_24gb", "sd3", "mini-bf16")]
    gpu.run_all(parts, Fake, time.monotonic() + 100, lines.append)
    order = [line for line in Fake.log if line.startswith(("go", "wait"))]
    assert order == [
        "go predict-sd3_24gb", "go sd3", "wait sd3", "go mini-bf16", "wait mini-bf16", "wait predict-sd3_24gb",
    ]  # fmt: skip
    assert Fake.log.index("start mini-bf16") < Fake.log.index("wait sd3")
    assert lines[0].startswith("sd3: ended")


def test_what_does_not_fit_into_the_time_is_done_by_the_next_run(gpu: ModuleType, tmp_path: Path) -> None:
    Fake.log, Fake.wrong, lines = [], {}, []
    gpu.run_all([part(gpu, "sd3"), part(gpu, "mini-bf16")], Fake, time.monotonic() + 5, lines.append)
    assert lines == ["no time left for sd3, mini-bf16: run it again"]
    assert Fake.log == ["start sd3", "end sd3"]
    here = {"gpus": ["A GPU"]}
    for name, complete, gpus in (("sd3", True, ["A GPU"]), ("sd3-fp8", False, ["A GPU"]), ("flux2-klein", True, [])):
        (tmp_path / f"{name}.json").write_text(json.dumps({"complete": complete, "machine": {"gpus": gpus}}))
    assert [p.name for p in gpu.missing(tmp_path, "times", here)] == ["sd3-released", "sd3-fp8", "flux2-klein"]


def test_the_replaced_sentences_are_in_the_documentation(gpu: ModuleType) -> None:
    """Whoever puts figures there takes the sentence off the list."""
    replaced = importlib.import_module("gpu_report").REPLACED
    for name, path, sentence in replaced:
        assert part(gpu, name)
        assert sentence in " ".join((ROOT / path).read_text(encoding="utf-8").split()), path


def test_every_part_has_its_function(gpu: ModuleType) -> None:
    parts = importlib.import_module("gpu_parts")
    assert all(callable(getattr(parts, found.function)) for found in gpu.PARTS)
    assert parts.peak_speeds(torch.device("cpu")) is None
    assert len({found.name for found in gpu.PARTS}) == len(gpu.PARTS)
