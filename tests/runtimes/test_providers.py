"""Execution providers of ONNX Runtime: which are there, and what happens when one is wrong."""

from __future__ import annotations

import logging
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnxruntime
import pytest

from tests.logs import own_records
from tsdsr.errors import InvalidInputError, ModelError, TSDSRError, WeightsError
from tsdsr.pipeline.model_files import resolve_model
from tsdsr.runtimes import providers
from tsdsr.runtimes.graph_calls import each
from tsdsr.runtimes.providers import PROVIDERS, OnnxSessions, available_providers, choose_provider

GRAPH = resolve_model("mini") / "denoiser" / "model.onnx"
X = np.random.default_rng(0).normal(size=(1, 48, 8, 12)).astype(np.float32)
Change = Callable[[np.ndarray], np.ndarray]


class FakeSession:
    """The session of a provider that changes results, or does something else when it runs."""

    def __init__(self, change: Change, log: list[str]) -> None:
        self._session = onnxruntime.InferenceSession(GRAPH, providers=[PROVIDERS["cpu"]])
        self._change, self._log = change, log

    def get_inputs(self) -> Any:
        return self._session.get_inputs()

    def run(self, names: None, inputs: dict[str, np.ndarray], options: Any = None) -> list[np.ndarray]:
        self._log.append("cuda")
        return [self._change(self._session.run(names, inputs)[0])]


@pytest.fixture
def with_cuda(monkeypatch: pytest.MonkeyPatch) -> Callable[[Change], list[str]]:
    """Makes a CUDA provider that changes results; returns a log of the sessions and runs by provider."""
    real = providers._create_session
    monkeypatch.setattr(
        onnxruntime, "get_available_providers", lambda: ["CUDAExecutionProvider", "CPUExecutionProvider"]
    )

    def install(change: Change) -> list[str]:
        log: list[str] = []

        def create(path: Path, name: str, number: str, threads: int) -> Any:
            log.append(f"open {name}{number}")
            return FakeSession(change, log) if name == "cuda" else real(path, name, number, threads)

        monkeypatch.setattr(providers, "_create_session", create)
        return log

    return install


def on_cpu() -> np.ndarray:
    session = onnxruntime.InferenceSession(GRAPH, providers=[PROVIDERS["cpu"]])
    result: np.ndarray = session.run(None, {"z_lq": X})[0]
    return result


def fails(_: np.ndarray) -> np.ndarray:
    raise RuntimeError("CUDA failure 700: illegal memory access")


WRONG: dict[str, tuple[Change, str]] = {
    "other values": (lambda z: z + 0.02, "gave a wrong result"),
    "other shape": (lambda z: z[..., 1:], "gave a wrong result"),
    "zeros": (np.zeros_like, "gave a wrong result"),
    "one wrong column": (lambda z: np.concatenate([z[..., :-1], z[..., -1:] + 0.1], -1), "gave a wrong result"),
    "not finite": (lambda z: np.where(z > 2, np.nan, z), "gave values that are not finite"),
    "failure": (fails, "failed (model failed on input (1, 48, 8, 12): CUDA failure 700: illegal memory access)"),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_provider_is_replaced_with_one_warning(
    name: str, with_cuda: Callable[[Change], list[str]], caplog: pytest.LogCaptureFixture
) -> None:
    change, reason = WRONG[name]
    log = with_cuda(change)
    sessions = OnnxSessions()
    graphs = [sessions.open_graph(GRAPH, compare=True) for _ in range(2)]
    for graph in (*graphs, *graphs):
        np.testing.assert_allclose(graph(X), on_cpu(), rtol=0, atol=1e-6)
    (record,) = own_records(caplog)
    assert record.levelno == logging.WARNING
    assert f"provider cuda {reason}" in record.getMessage()
    assert record.getMessage().endswith("the CPU is used instead")
    assert log.count("cuda") == 1
    assert sessions.provider == "cpu"


def test_a_provider_that_rounds_stays(
    with_cuda: Callable[[Change], list[str]], caplog: pytest.LogCaptureFixture
) -> None:
    log = with_cuda(lambda z: z.astype(np.float16).astype(np.float32))
    graph = OnnxSessions("cuda:1").open_graph(GRAPH, compare=True)
    results = [graph(X) for _ in range(3)]
    assert 0 < np.abs(results[0] - on_cpu()).max() < 0.01
    np.testing.assert_array_equal(results[0], results[2])
    assert log == ["open cuda1", "cuda", "open cpu", "cuda", "cuda"]  # compared once
    assert not own_records(caplog)


def test_without_comparison_only_values_that_are_not_finite_count(with_cuda: Callable[[Change], list[str]]) -> None:
    log = with_cuda(lambda z: z + 1)
    np.testing.assert_allclose(OnnxSessions().open_graph(GRAPH)(X), on_cpu() + 1, atol=1e-6)
    assert log == ["open cuda", "cuda"]


def test_a_provider_that_does_not_start_is_replaced(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Without its libraries, ONNX Runtime makes a session on the CPU, and only its log says so."""
    real = onnxruntime.InferenceSession
    built_in = ["CUDAExecutionProvider", "CPUExecutionProvider"]
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: built_in)
    monkeypatch.setattr(
        onnxruntime,
        "InferenceSession",
        lambda path, options, providers, **_: real(path, options, ["CPUExecutionProvider"]),
    )
    sessions = OnnxSessions()
    assert sessions.provider == "cuda"
    graph = sessions.open_graph(GRAPH)
    monkeypatch.undo()
    np.testing.assert_allclose(graph(X), on_cpu(), atol=1e-6)
    (record,) = own_records(caplog)
    assert "provider cuda cannot be started (its libraries or its device are missing)" in record.getMessage()


def test_lack_of_memory_asks_for_smaller_tiles(
    with_cuda: Callable[[Change], list[str]], caplog: pytest.LogCaptureFixture
) -> None:
    def exhausted(_: np.ndarray) -> np.ndarray:
        raise RuntimeError("Failed to allocate memory for requested buffer of size 1234")

    with_cuda(exhausted)
    sessions = OnnxSessions()
    with pytest.raises(MemoryError, match="Failed to allocate"):
        sessions.open_graph(GRAPH, compare=True)(X)
    assert sessions.provider == "cuda"
    assert not own_records(caplog)


def test_the_preferred_one_is_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    def installed(*names: str) -> None:
        built_in = [PROVIDERS[name] for name in names] + ["AzureExecutionProvider"]
        monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: built_in)

    installed("cpu", "openvino", "tensorrt", "cuda")
    assert available_providers() == ("cuda", "tensorrt", "openvino", "cpu")
    assert choose_provider() == ("cuda", "")
    assert choose_provider("tensorrt:1") == ("tensorrt", "1")
    installed("cpu", "tensorrt")
    assert choose_provider() == ("cpu", "")  # TensorRT compiles for each size, so it is for those who ask for it
    installed("cpu", "coreml")
    assert choose_provider() == ("coreml", "")
    with pytest.raises(ModelError, match="provider 'cuda' cannot be used by ONNX Runtime here, only coreml, cpu"):
        choose_provider("cuda")
    for wrong in ("toaster", "", "cuda:x", "cpu:1", "cuda:-1"):
        with pytest.raises(InvalidInputError, match="unknown provider"):
            choose_provider(wrong)


def test_plug_ins_are_used_if_they_find_a_device(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    devices: list[Any] = []
    registered: list[tuple[str, str]] = []
    monkeypatch.setitem(sys.modules, "onnxruntime_ep_webgpu", SimpleNamespace(get_library_path=lambda: "webgpu.so"))
    monkeypatch.setattr(providers, "find_spec", lambda name: name == "onnxruntime_ep_webgpu" or None)
    monkeypatch.setattr(onnxruntime, "get_ep_devices", lambda: devices, raising=False)
    monkeypatch.setattr(
        onnxruntime, "register_execution_provider_library", lambda *given: registered.append(given), raising=False
    )
    for found, chosen in (([], "cpu"), ([SimpleNamespace(ep_name="WebGpuExecutionProvider")], "webgpu")):
        providers._plugin_devices.cache_clear()
        devices[:] = found
        assert choose_provider()[0] == chosen
        assert registered.pop() == ("onnxruntime_ep_webgpu", "webgpu.so")
        assert choose_provider()[0] == chosen
        assert not registered  # once
    providers._plugin_devices.cache_clear()
    monkeypatch.delattr(sys.modules["onnxruntime_ep_webgpu"], "get_library_path")
    assert choose_provider()[0] == "cpu"
    assert "onnxruntime_ep_webgpu cannot be loaded" in caplog.text
    providers._plugin_devices.cache_clear()


def test_a_damaged_graph_is_named(tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(b"no graph")
    with pytest.raises(WeightsError, match=r"model\.onnx: cannot be loaded \(.*export the model again"):
        OnnxSessions("cpu").open_graph(tmp_path / "model.onnx")
    with pytest.raises(TSDSRError, match=r"model failed on input \(1, 2, 3, 4\)"):
        OnnxSessions("cpu").open_graph(GRAPH)(np.zeros((1, 2, 3, 4), np.float32))


def test_a_batch_is_run_one_by_one_or_at_once() -> None:
    graph = OnnxSessions("cpu").open_graph(GRAPH)
    batch = np.concatenate([X, X[:, ::-1]])
    np.testing.assert_allclose(each(graph, batch), graph(batch), rtol=0, atol=1e-5)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no timer that sends a signal")
def test_a_signal_ends_a_run() -> None:
    """A run of many seconds ends soon after Ctrl-C, and the graph can be used again."""
    graph = OnnxSessions("cpu", threads=1).open_graph(GRAPH)
    handler = signal.signal(signal.SIGALRM, signal.default_int_handler)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.3)
        started = time.process_time()
        with pytest.raises(KeyboardInterrupt):
            graph(np.zeros((1, 48, 512, 512), np.float32))
        assert time.process_time() - started < 4
    finally:
        signal.signal(signal.SIGALRM, handler)
    assert graph(X).shape == X.shape
