"""Compiled pipelines give the same pictures, and a clear error without a compiler."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from types import SimpleNamespace
from typing import Any

import pytest
import torch

import tsdsr.optimize.compile as compile_module
import tsdsr.optimize.cuda_graphs as cuda_graphs
from tsdsr.errors import MissingDependencyError
from tsdsr.models.groupnorm import SharedGroupNorms
from tsdsr.optimize.compile import compile_pipeline, require_compiler
from tsdsr.optimize.cuda_graphs import CaptureSpace, GraphedFunction
from tsdsr.pipeline.diffusers_pipeline import OneStepSRPipeline


def test_a_missing_compiler_is_named(mini_pipe: OneStepSRPipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compile_module.shutil, "which", lambda _: None)
    with pytest.raises(MissingDependencyError, match=r"C\+\+ compiler.*leave the flag out"):
        compile_pipeline(mini_pipe)
    monkeypatch.setattr(compile_module, "find_spec", lambda _: None)
    with pytest.raises(MissingDependencyError, match="Triton"):
        require_compiler(torch.device("cuda"))


SPACE = CaptureSpace.__new__(CaptureSpace)  # no GPU is needed to make it


@pytest.fixture
def compiled(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Pretend that networks on the CPU are on a GPU with a compiler; the list gets what is compiled."""
    found: list[Any] = []
    monkeypatch.setattr(compile_module, "require_compiler", lambda _: None)
    monkeypatch.setattr(OneStepSRPipeline, "device", torch.device("cuda"))
    monkeypatch.setattr(compile_module, "CaptureSpace", lambda device: device)
    monkeypatch.setattr(torch, "compile", lambda function: found.append(function) or function)
    monkeypatch.setattr(torch.nn.Module, "compile", lambda module: found.append(module))
    monkeypatch.setattr(cuda_graphs, "capture", recorded)
    return found


def recorded(call: Callable[[], Any], inputs: Sequence[Any], space: Any) -> tuple[Callable[[], None], Any]:
    """Stands for a capture: a replay calls again, and writes to the same memory."""
    result = call()

    def first(found: Any) -> torch.Tensor:
        return found[0] if isinstance(found, tuple) else found

    return lambda: first(result).copy_(first(call())), result


def test_on_a_gpu_blocks_are_compiled_and_networks_captured(sd3_pipe: OneStepSRPipeline, compiled: list[Any]) -> None:
    inputs = [torch.rand(1, 3, 16, 16), torch.rand(1, 3, 16, 16), torch.rand(1, 3, 16, 32)]
    expected = [sd3_pipe.decode(sd3_pipe.denoise(sd3_pipe.encode(x))) for x in inputs]
    with torch._dynamo.config.patch(recompile_limit=8):
        compile_pipeline(sd3_pipe)
        assert torch._dynamo.config.recompile_limit == 64
    blocks, halves = compiled[:-2], compiled[-2:]
    assert blocks == list(sd3_pipe.denoiser.transformer_blocks)
    assert [f.__self__ for f in halves] == [sd3_pipe.vae.encoder, sd3_pipe.vae.decoder]
    found = [sd3_pipe.decode(sd3_pipe.denoise(sd3_pipe.encode(x))) for x in inputs]
    assert all(torch.equal(a, b) for a, b in zip(expected, found, strict=True))
    assert isinstance(sd3_pipe.denoiser.forward, GraphedFunction)
    assert len(sd3_pipe.denoiser.forward._kept) == 2


def test_networks_without_a_list_of_blocks_are_compiled_whole(
    sd21_pipe: OneStepSRPipeline, compiled: list[Any]
) -> None:
    compile_pipeline(sd21_pipe)
    assert [f.__self__ for f in compiled] == [sd21_pipe.denoiser, sd21_pipe.vae.encoder, sd21_pipe.vae.decoder]


def test_while_an_image_is_tiled_networks_with_group_norms_are_not_replayed(
    sd21_pipe: OneStepSRPipeline, compiled: list[Any]
) -> None:
    """A replay would use the statistics of the image that was captured."""
    first, second = torch.rand(1, 3, 16, 16), 0.3 * torch.rand(1, 3, 16, 16)

    def both() -> list[torch.Tensor]:
        results = []
        for image in (first, second):
            norms = SharedGroupNorms(sd21_pipe.vae, sd21_pipe.denoiser)
            with norms.measured():
                sd21_pipe.encode(image)
            with norms.held():
                results.append(sd21_pipe.encode(second))
        return results

    expected = both()
    compile_pipeline(sd21_pipe)
    sd21_pipe.encode(first)
    fast = sd21_pipe.vae.encoder.forward
    assert all(torch.equal(a, b) for a, b in zip(expected, both(), strict=True))
    assert not torch.equal(*expected)
    assert sd21_pipe.vae.encoder.forward is fast


def test_few_sizes_are_kept_and_none_without_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    failures: list[RuntimeError] = []

    def capture(call: Callable[[], Any], inputs: Sequence[Any], space: Any) -> tuple[Callable[[], None], Any]:
        if failures:
            raise failures.pop()
        return recorded(call, inputs, space)

    monkeypatch.setattr(cuda_graphs, "capture", capture)
    graphed = GraphedFunction(lambda x, by=2: x * by, lambda x: x, SPACE)
    for length in range(1, cuda_graphs.KEPT + 3):
        assert graphed(torch.ones(length), by=3).sum() == 3 * length
    assert len(graphed._kept) == cuda_graphs.KEPT
    failures.append(RuntimeError("CUDA out of memory"))
    with pytest.raises(RuntimeError, match="out of memory"):
        graphed(torch.ones(99))
    assert not graphed._kept


def test_what_cannot_be_captured_runs_without(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def capture(call: Callable[[], Any], inputs: Sequence[Any], space: Any) -> tuple[Callable[[], None], Any]:
        raise RuntimeError("operation not permitted when stream is capturing")

    monkeypatch.setattr(cuda_graphs, "capture", capture)
    graphed = GraphedFunction(lambda x: x + 1, lambda x: x, SPACE)
    assert [float(graphed(torch.full((1,), x))) for x in (1.0, 2.0)] == [2, 3]
    assert caplog.text.count("not permitted when stream is capturing") == 1


def test_what_was_moved_from_the_gpu_is_not_replayed() -> None:
    """A graph of work that is done on a CPU is empty, and would return the first result for ever."""
    graphed = GraphedFunction(lambda x: x + 1, lambda x: x, SPACE)
    assert [float(graphed(torch.full((1,), x))) for x in (1.0, 2.0)] == [2, 3]


class Streams:
    """Stands for torch.cuda: notes the device and the stream of each call."""

    def __init__(self, fails: bool) -> None:
        self.device, self.stream, self.fails = "cuda:0", "main", fails
        self.calls: list[tuple[str, str]] = []

    @contextmanager
    def entered(self, name: str, value: str) -> Iterator[None]:
        before = getattr(self, name)
        setattr(self, name, value)
        try:
            yield
        finally:
            setattr(self, name, before)

    @contextmanager
    def graph(self, graph: Any, pool: Any, stream: str, capture_error_mode: str) -> Iterator[None]:
        before, self.stream = self.stream, stream
        yield
        if self.fails:  # torch then leaves its stream the current one
            raise RuntimeError("capture was invalidated")
        self.stream = before


@pytest.mark.parametrize("fails", [False, True])
def test_a_capture_takes_the_device_and_one_stream_of_its_space(monkeypatch: pytest.MonkeyPatch, fails: bool) -> None:
    """On the current device, or on a stream of its own, another GPU's kernels would run, and not be captured."""
    cuda, wait = Streams(fails), type("Stream", (str,), {"wait_stream": lambda *_: None})
    space = CaptureSpace.__new__(CaptureSpace)
    space.device, space.pool, space.stream = "cuda:1", (0, 1), wait("side")  # type: ignore[assignment]
    fakes = {
        "current_stream": lambda _=None: wait(cuda.stream),
        "device": lambda device: cuda.entered("device", device),
        "stream": lambda stream: cuda.entered("stream", stream),
        "graph": cuda.graph,
        "CUDAGraph": lambda: SimpleNamespace(replay=lambda: None),
    }
    for name, fake in fakes.items():
        monkeypatch.setattr(torch.cuda, name, fake)
    with pytest.raises(RuntimeError, match="invalidated") if fails else nullcontext():
        cuda_graphs.capture(lambda: cuda.calls.append((cuda.device, cuda.stream)), [3], space)
    assert cuda.calls == [("cuda:1", "side")] * 3
    assert cuda.stream == "main"


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # torch's own, of its modules
def test_on_a_cpu_the_denoiser_is_compiled(mini_pipe: OneStepSRPipeline) -> None:
    """Uses inductor's real options but skips its half minute of C++: the captured graph runs eagerly."""
    try:
        require_compiler(torch.device("cpu"))
    except MissingDependencyError as error:
        pytest.skip(str(error))
    compile_pipeline(mini_pipe)  # torch refuses options that do not exist
    assert mini_pipe.vae._compiled_call_impl is None
    assert mini_pipe.denoiser._compiled_call_impl is not None
    mini_pipe.denoiser._compiled_call_impl = None
    x = torch.rand(1, 3, 16, 16)
    eager = mini_pipe(x, scale=2).images
    mini_pipe.denoiser.compile(backend="eager", fullgraph=True, dynamic=False)
    assert float((eager - mini_pipe(x, scale=2).images).abs().max()) < 1e-5
    torch._dynamo.reset()
