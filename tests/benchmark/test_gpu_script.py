"""benchmarks/gpu.py: its parts run with tiny networks, a run that is cut off keeps what it has, and goes on."""

from __future__ import annotations

import importlib
import io
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


RUN = {"machine": {"gpus": ["A GPU"]}, "versions": {"torch": "2"}, "rehearsal": False}


def test_only_complete_figures_of_this_run_are_kept(gpu: ModuleType, tmp_path: Path) -> None:
    """A rehearsal on the machine with the GPU, another GPU and another torch measure something else."""
    others: dict[str, dict[str, Any]] = {
        "sd3-released": {}, "sd3": {"complete": False, "error": "stopped", "eager": 1}, "sd3-fp8": {"rehearsal": True},
        "flux2-klein": {"machine": {"gpus": []}}, "mini-bf16": {"versions": {"torch": "1"}},
        "predict-sd3_24gb": {"machine": {"gpus": []}}, "predict-sd3_paper": {"rehearsal": True},
    }  # fmt: skip
    for name, changes in others.items():
        (tmp_path / f"{name}.json").write_text(json.dumps(RUN | {"complete": True} | changes))
    (tmp_path / "mini-fp16.json").write_text("[1, 2")
    (tmp_path / "mini-onnx.json").write_text("[1, 2]")
    parts = gpu.missing(tmp_path, None, RUN)
    names = [p.name for p in parts]
    assert {*others} & {*names} == {*others} - {"sd3-released", "predict-sd3_24gb"}
    assert {"mini-fp16", "mini-onnx"} <= {*names}
    assert [p.name for p in gpu.missing(tmp_path, "times", RUN)] == ["sd3", "sd3-fp8", "flux2-klein"]
    gpu.forget(tmp_path, parts, RUN)
    assert gpu.load(tmp_path, part(gpu, "sd3")) == RUN | {"complete": False, "eager": 1}
    assert not (tmp_path / "sd3-fp8.json").exists()
    assert gpu.load(tmp_path, part(gpu, "sd3-released"))["complete"]


def test_ctrl_c_ends_the_running_part(gpu: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object) -> str:
        raise KeyboardInterrupt

    Fake.log = []
    monkeypatch.setattr(Fake, "wait", interrupt)
    with pytest.raises(KeyboardInterrupt):
        gpu.run_all([part(gpu, n) for n in ("predict-sd3_24gb", "sd3", "mini-bf16")], Fake, time.monotonic() + 100)
    started, ended = ([line.split()[1] for line in Fake.log if line.startswith(kind)] for kind in ("start", "end"))
    assert sorted(started) == sorted(ended) == ["mini-bf16", "predict-sd3_24gb", "sd3"]


def test_a_part_whose_run_has_ended_does_not_begin(
    gpu: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO())
    gpu.main(["--part", "mini-tiles", "--rehearse", "-o", str(tmp_path)])
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_take_the_results_is_refused(
    gpu: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "sd3.json").write_text(json.dumps(RUN | {"complete": True}))
    for arguments, message in (
        (["-o", str(tmp_path / "sd3.json")], "cannot be created: File exists"),
        (["-o", str(tmp_path)], "holds figures of a GPU"),
        (["-o", str(tmp_path), "--limit", "nan"], "--limit must be more than 0"),
    ):
        with pytest.raises(SystemExit) as end:
            gpu.main(["--rehearse", *arguments])
        assert end.value.code == 2
        assert message in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["sd3.json"]


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
    known = ("NVIDIA H100 80GB HBM3", "NVIDIA H200", "NVIDIA GH200 480GB", "NVIDIA A100-SXM4-80GB", "NVIDIA L40S")
    assert [parts.peaks_of(name)[0] / 1e12 for name in known] == [989, 989, 989, 312, 362]
    for name in ("NVIDIA H100 80GB HBM3 MIG 1g.10gb", "NVIDIA H100 PCIe", "NVIDIA H200 NVL", "NVIDIA RTX A1000"):
        assert parts.peaks_of(name) is None
    assert len({found.name for found in gpu.PARTS}) == len(gpu.PARTS)
