"""Which engine runs a model, and arguments that an engine does not take."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

import tsdsr
from tsdsr.errors import InvalidInputError, MissingDependencyError
from tsdsr.pipeline.model_files import EXPORT_INDEX, MINI_GRAPH, has_graph, resolve_model
from tsdsr.runtimes import open_model
from tsdsr.runtimes.export_index import GRAPHS, ExportIndex
from tsdsr.runtimes.open_model import WORTH_TORCH, Engine, choose_engine, load_pipeline


@pytest.fixture
def mini(tmp_path: Path) -> Path:
    """mini with a graph, of which only the presence matters here."""
    folder = tmp_path / "mini"
    shutil.copytree(resolve_model("mini"), folder)
    (folder / MINI_GRAPH).write_bytes(b"")
    return folder


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """A machine with torch, without a GPU, without bfloat16."""
    monkeypatch.setattr(open_model, "find_spec", lambda name: name)
    monkeypatch.setattr(open_model, "has_gpu", lambda: False)
    monkeypatch.setattr(open_model, "multiplies_bf16", lambda: False)
    monkeypatch.setattr(open_model, "_torch_accelerates", lambda device, dtype: True)
    return monkeypatch


@pytest.mark.usefixtures("machine")
def test_a_plain_processor_takes_onnx_runtime(mini: Path) -> None:
    assert choose_engine(mini) == "onnx"
    assert choose_engine(mini, "cpu", "fp32") == "onnx"
    assert choose_engine(mini, engine="torch") == "torch"


@pytest.mark.parametrize("faster", ["has_gpu", "multiplies_bf16"])
def test_torch_where_it_is_faster_and_there_is_enough_to_do(
    mini: Path, machine: pytest.MonkeyPatch, faster: str
) -> None:
    machine.setattr(open_model, faster, lambda: True)
    assert choose_engine(mini) == "torch"
    assert choose_engine(mini, pixels=WORTH_TORCH) == "torch"
    assert choose_engine(mini, pixels=WORTH_TORCH - 1) == "onnx"
    assert choose_engine(mini, "cpu", "fp32") == "onnx"
    assert choose_engine(mini, provider="cpu") == "onnx"
    machine.setattr(open_model, "find_spec", lambda _: None)
    assert choose_engine(mini) == "onnx"


@pytest.mark.parametrize(("device", "dtype", "engine"), [("cpu", "float32", "onnx"), ("cpu", "bfloat16", "torch"),
                                                         ("cuda", "float32", "torch")])  # fmt: skip
def test_a_driver_says_nothing_about_torchs_build(
    mini: Path, monkeypatch: pytest.MonkeyPatch, device: str, dtype: str, engine: str
) -> None:
    monkeypatch.setattr(open_model, "has_gpu", lambda: True)
    monkeypatch.setattr("tsdsr.devices.choose_device", lambda *_: torch.device(device))
    monkeypatch.setattr("tsdsr.devices.choose_dtype", lambda *_: getattr(torch, dtype))
    assert choose_engine(mini) == engine


@pytest.mark.parametrize("error", [OSError("libcudart.so.12: no such file"), ImportError("DLL"), RuntimeError("ABI 9")])
@pytest.mark.parametrize("package", ["torch", "safetensors"])
def test_a_broken_torch_is_named_and_auto_does_without(
    mini: Path, machine: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, package: str, error: Exception
) -> None:
    def broken(name: str) -> None:
        if name == package:
            raise error

    machine.setattr(open_model, "multiplies_bf16", lambda: True)
    machine.setattr("tsdsr.errors.import_module", broken)
    assert choose_engine(mini) == "onnx"
    assert f"installed but cannot be imported ({error})" in caplog.text
    with pytest.raises(MissingDependencyError, match="installed but cannot be imported"):
        load_pipeline(mini, engine="torch")


@pytest.mark.parametrize("threads", [0, -1, 1.5, "2", True])
@pytest.mark.parametrize("engine", ["onnx", "torch"])
def test_threads_are_checked_first(mini: Path, engine: Engine, threads: Any) -> None:
    with pytest.raises(InvalidInputError, match="threads must be None or a whole number of at least 1"):
        load_pipeline(mini, engine=engine, threads=threads)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"device": "cuda"}, "providers instead of the device"),
        ({"dtype": "bf16"}, "leave out the dtype"),
        ({"provider": "nope"}, "unknown provider"),
    ],
)
def test_wrong_arguments_are_told_before_an_export(
    mini: Path, monkeypatch: pytest.MonkeyPatch, arguments: dict[str, str], message: str
) -> None:
    (mini / MINI_GRAPH).unlink()
    monkeypatch.setattr(open_model, "cached_export", lambda *_: pytest.fail("exported first"))
    with pytest.raises(InvalidInputError, match=message):
        load_pipeline(mini, engine="onnx", **arguments)  # type: ignore[arg-type]


def test_fast_without_a_graph_names_the_command(mini: Path) -> None:
    (mini / MINI_GRAPH).unlink()
    with pytest.raises(InvalidInputError, match=r"has no graph; leave out 'fast', or run 'tsdsr graph .* --int8"):
        choose_engine(mini, fast=True)


@pytest.mark.usefixtures("machine")
@pytest.mark.parametrize(("device", "dtype"), [("cuda", "auto"), ("mps", "auto"), ("cpu", "bf16"), ("auto", "fp16")])
def test_what_only_torch_does_takes_torch(mini: Path, device: str, dtype: str) -> None:
    assert choose_engine(mini, device, dtype, pixels=1) == "torch"
    with pytest.raises(InvalidInputError, match="ONNX Runtime"):
        load_pipeline(mini, device, dtype, engine="onnx")


@pytest.mark.usefixtures("machine")
def test_models_without_a_graph_take_torch(mini: Path) -> None:
    (mini / MINI_GRAPH).unlink()
    assert not has_graph(mini)
    assert choose_engine(mini, pixels=1) == "torch"


@pytest.mark.parametrize("engine", ["onnx", "openvino"])
def test_a_cached_export_is_opened_as_asked(mini: Path, monkeypatch: pytest.MonkeyPatch, engine: Engine) -> None:
    (mini / MINI_GRAPH).unlink()
    made: list[tuple[object, ...]] = []
    opened: list[tuple[object, ...]] = []
    monkeypatch.setattr(open_model, "cached_export", lambda *given: made.append(given[:3]) or mini)
    exported = SimpleNamespace(folder=Path("cache"))
    monkeypatch.setattr(open_model, "load_exported", lambda *given: opened.append(given) or exported)
    provider = "cpu" if engine == "onnx" else "auto"
    pipe = load_pipeline(mini, "cpu", "float16", engine=engine, threads=3, provider=provider)
    assert pipe.folder == mini
    assert made == [(mini, engine, "fp16")]
    assert opened == [(mini, "cpu", "float16", 3, provider)]


def test_a_provider_is_refused_by_what_is_exported_for_openvino(tmp_path: Path) -> None:
    index = ExportIndex("openvino", "mini", "fp32", 1.72, 4, 16)
    (tmp_path / EXPORT_INDEX).write_text(json.dumps(asdict(index)))
    for graph in GRAPHS:
        index.graph(tmp_path, graph).touch()
    with pytest.raises(InvalidInputError, match="exported for openvino, and provider 'cuda' is one of ONNX Runtime"):
        load_pipeline(tmp_path, provider="cuda")


def test_without_torch_the_extra_is_named(mini: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tsdsr.errors.find_spec", lambda _: None)
    with pytest.raises(MissingDependencyError, match=r"mini in torch needs PyTorch: .*torch"):
        load_pipeline(mini, engine="torch")
    with pytest.raises(MissingDependencyError, match=r"exporting .*mini needs PyTorch: .*openvino"):
        load_pipeline(mini, engine="openvino", cache=mini / "cache")


def test_an_unknown_engine_lists_the_known_ones(mini: Path) -> None:
    with pytest.raises(InvalidInputError, match="unknown engine 'tflite'; choose from auto, onnx, torch, openvino"):
        load_pipeline(mini, engine="tflite")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "call",
    [
        tsdsr.fold,
        tsdsr.compile_pipeline,
        lambda pipe: tsdsr.quantize(pipe, "int8"),
        lambda pipe: tsdsr.save_pipeline(pipe, "new"),
        lambda pipe: tsdsr.export_pipeline(pipe, "new"),
    ],
    ids=["fold", "compile_pipeline", "quantize", "save_pipeline", "export_pipeline"],
)
@pytest.mark.parametrize("engine", ["onnx", "torch"])
def test_what_changes_networks_names_the_loader_it_needs(call: Callable[[Any], object], engine: Engine) -> None:
    pipe = load_pipeline("mini", "cpu", "fp32", engine=engine)
    with pytest.raises(InvalidInputError, match=r"needs a OneStepSRPipeline, got \w+: load .* load_diffusers_pipeline"):
        call(pipe)
