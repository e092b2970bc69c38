"""Benchmarks: timed parts, alternation of runs, contents of a result."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

import tsdsr.benchmark.runner as bench_module
from tsdsr.arrays import HostDevice
from tsdsr.benchmark.entries import (
    PARTS,
    BenchModel,
    BenchNetwork,
    BenchPipeline,
    Entry,
    as_released,
    open_entry,
)
from tsdsr.benchmark.runner import BenchResult, BenchSettings, bench, by_part, example_image, spread
from tsdsr.cli import app
from tsdsr.errors import InvalidInputError, ModelNotFoundError
from tsdsr.measuring import Stopwatch
from tsdsr.pipeline.convert import save_pipeline
from tsdsr.pipeline.diffusers_pipeline import OneStepSRPipeline

CPU = torch.device("cpu")


class _InProcess:
    """Stands for an executor, without the seconds a process takes to import torch."""

    asked: tuple[str, ...] = ()

    def __init__(self, *_: object) -> None: ...

    def shutdown(self) -> None: ...

    def submit(self, function: Callable[..., Any], *args: object) -> _InProcess:
        self._result = function(*args)
        return self

    def result(self) -> Any:
        return self._result


@pytest.fixture
def in_process(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Everything in this process; the list holds what has been opened."""
    opened: list[Any] = []
    monkeypatch.setattr(bench_module, "ProcessPoolExecutor", _InProcess)
    monkeypatch.setattr(bench_module, "_opened", opened)
    return opened


def save(pipe: OneStepSRPipeline, folder: Path) -> str:
    save_pipeline(pipe, folder, torch.float32)
    return str(folder)


@pytest.mark.parametrize("way", ["pipeline", "released", "peer"])
def test_parts_add_up_to_the_time_on_the_clock(sd3_pipe: OneStepSRPipeline, tmp_path: Path, way: str) -> None:
    """Each part once, though the released way's denoising in tiles calls the pipeline's own."""
    source, target, watch = tmp_path / "in.png", tmp_path / "out.png", Stopwatch(HostDevice())
    example_image(72).save(source)
    models: dict[str, BenchModel] = {
        "pipeline": BenchPipeline(sd3_pipe),
        "released": as_released(sd3_pipe),
        "peer": BenchNetwork(torch.nn.Upsample(scale_factor=8), 8, CPU),
    }
    started = time.perf_counter()
    with watch.listening():
        models[way].run(source, target, 8)
    elapsed = time.perf_counter() - started
    seconds = by_part(watch.seconds)
    parts = [seconds[part] for part in PARTS]
    assert sum(parts) == pytest.approx(seconds["total"])
    assert seconds["total"] == pytest.approx(elapsed, rel=0.02, abs=0.01)
    absent = {"encode", "decode", "colour"} if way == "peer" else set()
    assert {part for part in PARTS if seconds[part] == 0} == absent
    assert min(parts) >= 0
    assert target.exists()


def test_models_take_turns(
    mini_pipe: OneStepSRPipeline, tmp_path: Path, in_process: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, steps = save(mini_pipe, tmp_path / "model"), []
    entries = [Entry(folder, name="a"), Entry(folder, dtype="bf16", name="b")]
    found = bench(entries, BenchSettings(16, 2, runs=2), lambda what, done, total: steps.append((what, done, total)))
    assert [what for what, *_ in steps] == ["loading a", "loading b", "a", "b", "a", "b", "a", "b"]
    assert [done for _, done, _ in steps] == list(range(8))
    assert [len(timing.runs) for timing in found.timings] == [2, 2]
    assert [len(timing.warmup_seconds) for timing in found.timings] == [1, 1]
    assert found.speedups()[0] == 1


def test_the_json_says_everything(mini_pipe: OneStepSRPipeline, tmp_path: Path, in_process: list[Any]) -> None:
    found = bench([Entry(save(mini_pipe, tmp_path / "model"), "cpu", "bf16")], BenchSettings(16, 2, runs=2))
    found.save(tmp_path / "bench.json")
    stored = json.loads((tmp_path / "bench.json").read_text())
    assert {"cpu", "cores", "instructions", "bf16", "gpus", "system"} <= set(stored["machine"])
    assert {"python", "torch", "diffusers"} <= set(stored["versions"])
    assert stored["settings"] == {"size": 16, "scale": 2, "runs": 2, "warmup": 1, "batch": 1}
    (model,) = stored["models"]
    assert (model["dtype"], model["device"], model["threads"]) == ("bfloat16", "cpu", torch.get_num_threads())
    assert model["parameters"] == sum(p.numel() for p in mini_pipe.denoiser.parameters())
    assert set(model["seconds"]) == {*PARTS, "total", "cpu"}
    for run in model["runs"]:
        assert sum(run[part] for part in PARTS) == pytest.approx(run["total"])
    assert stored["speedup_over_first"] == [1]


def test_the_parts_of_the_table_add_up_too(mini_pipe: OneStepSRPipeline, tmp_path: Path, in_process: list[Any]) -> None:
    """Medians of the parts would not: each could come from another run."""
    timing = bench([Entry(save(mini_pipe, tmp_path / "model"))], BenchSettings(16, 1, runs=1)).timings[0]
    runs = [
        by_part({"encode": a, "denoise": b, "blend": c}) for a, b, c in ((1, 9, 2), (5, 5, 5), (9, 1, 9), (8, 8, 1))
    ]
    timing = replace(timing, runs=tuple(runs))
    assert sum(timing.median(part) for part in PARTS) == timing.median() == 15
    assert timing.median("denoise") == 5


def test_ratios_are_of_rounds(mini_pipe: OneStepSRPipeline, tmp_path: Path, in_process: list[Any]) -> None:
    timing = bench([Entry(save(mini_pipe, tmp_path / "model"))], BenchSettings(16, 1, runs=1)).timings[0]

    def with_totals(*totals: float) -> Any:
        return type(timing)(**{**vars(timing), "runs": tuple({"total": t} for t in totals), "peak_memory": 3})

    found = BenchResult({}, {}, BenchSettings(), (with_totals(1, 10, 4), with_totals(0.5, 2, 4)))
    assert found.speedups() == [1, 2]  # of 2, 5 and 1
    assert found.memory_ratios() == [1, 1]


def test_spread_of_one_and_of_many() -> None:
    assert set(spread([3.0]).values()) == {3.0}
    assert spread([5, 1, 2, 3, 4]) == {"median": 3, "min": 1, "max": 5, "q1": 2, "q3": 4}


def test_options_of_one_model() -> None:
    common = Entry("mini", threads=2, compile=True)
    assert common.parsed("sd,dtype=bf16,eager") == Entry(
        "sd", dtype="bf16", threads=2, compile=False, name="sd,dtype=bf16,eager"
    )
    for text in ("mini,fast", "mini,threads=many", "mini,dtype=", ",compile"):
        with pytest.raises(InvalidInputError):
            common.parsed(text)


def test_a_peer_of_another_scale_is_refused_before_anything_is_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench_module, "_Worker", lambda *_: pytest.fail("a model was loaded"))
    with pytest.raises(InvalidInputError, match="peer:realesrgan: enlarges by 4, not by 2; give --scale 4"):
        bench([Entry("mini"), Entry("peer:realesrgan")], BenchSettings(size=32, scale=2.0))


def test_a_peer_has_its_own_scale(tmp_path: Path) -> None:
    example_image(8).save(tmp_path / "in.png")
    peer = BenchNetwork(torch.nn.Upsample(scale_factor=4), 4, CPU)
    peer.run(tmp_path / "in.png", tmp_path / "out.png", 4)
    with pytest.raises(InvalidInputError, match="enlarges by 4"):
        peer.run(tmp_path / "in.png", tmp_path / "out.png", 2)


def test_refusals() -> None:
    with pytest.raises(InvalidInputError, match="different names"):
        bench([Entry("mini"), Entry("mini")], BenchSettings())
    with pytest.raises(InvalidInputError, match="leave out fold, quantize and compile"):
        open_entry(Entry("released:sd3", compile=True))
    with pytest.raises(InvalidInputError, match="exists for SD3 models, not for 'flux2-klein'"):
        Entry("released:flux2-klein")
    with pytest.raises(InvalidInputError, match="peer:realesrgan"):
        open_entry(Entry("peer:swinir"))
    with pytest.raises(InvalidInputError, match="runs in torch only; leave out engine=onnx"):
        Entry("mini").parsed("random:sd3,engine=onnx")
    with pytest.raises(InvalidInputError, match="runs in torch only; leave out fast"):
        Entry("mini").parsed("mini,fold,fast")
    assert Entry("mini").parsed("mini,engine=onnx,fast").fast
    with pytest.raises(InvalidInputError, match="unknown engine 'tflite'"):
        Entry("mini").parsed("mini,engine=tflite")
    with pytest.raises(ModelNotFoundError, match="unknown base model"):
        open_entry(Entry("random:sd9"))
    with pytest.raises(InvalidInputError, match="size and runs must be at least 1"):
        BenchSettings(runs=0)


@pytest.mark.parametrize(("name", "millions"), [("realesrgan", 16.70), ("general-x4v3", 1.21)])
def test_peers_have_the_published_size(name: str, millions: float) -> None:
    pytest.importorskip("spandrel", reason="needs the extra 'eval'", exc_type=ImportError)
    model = open_entry(Entry(f"peer:{name}", "cpu"))
    assert model.parameters is not None
    assert round(model.parameters / 1e6, 2) == millions


@pytest.mark.parametrize("engine", ["onnx", "torch"])
def test_mini_in_each_engine(engine: str, tmp_path: Path) -> None:
    example_image(16).save(tmp_path / "in.png")
    model = open_entry(Entry("mini", "cpu", "fp32").parsed(f"mini,engine={engine}"))
    assert (model.engine, model.dtype, model.parameters is None) == (engine, "float32", engine == "onnx")
    model.run(tmp_path / "in.png", tmp_path / "out.png", 4)
    with Image.open(tmp_path / "out.png") as image:
        assert image.size == (64, 64)


def test_the_command_in_processes_of_its_own(tmp_path: Path) -> None:
    path = tmp_path / "bench.json"
    result = CliRunner().invoke(
        app, ["bench", "mini", "--size", "16", "--runs", "1", "--threads", "1", "--json", str(path)]
    )
    assert result.exit_code == 0, result.output
    for part in (*PARTS, "total", "peak memory"):
        assert part in result.output
    (model,) = json.loads(path.read_text())["models"]
    assert model["threads"] == 1
    assert model["peak_memory"] is None or model["peak_memory"] > 2e8


def test_a_model_that_cannot_be_opened_ends_the_command(tmp_path: Path, in_process: list[Any]) -> None:
    result = CliRunner().invoke(app, ["bench", str(tmp_path / "nowhere")])
    assert result.exit_code == 2
    assert "nowhere" in result.output
