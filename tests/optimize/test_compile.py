"""Compiled pipelines give the same pictures, and a clear error without a compiler."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch

import tsdsr.optimize.compile as compile_module
from tsdsr.errors import MissingDependencyError
from tsdsr.optimize.compile import compile_pipeline, require_compiler
from tsdsr.pipeline.diffusers_pipeline import OneStepSRPipeline


def test_a_missing_compiler_is_named(mini_pipe: OneStepSRPipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compile_module.shutil, "which", lambda _: None)
    with pytest.raises(MissingDependencyError, match=r"C\+\+ compiler.*leave the flag out"):
        compile_pipeline(mini_pipe)
    monkeypatch.setattr(compile_module, "find_spec", lambda _: None)
    with pytest.raises(MissingDependencyError, match="Triton"):
        require_compiler(torch.device("cuda"))


def test_on_a_gpu_all_networks_are_compiled_to_graphs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compile_module, "find_spec", lambda _: object())
    calls: list[tuple[str, dict[str, Any]]] = []

    def network(name: str) -> Any:
        def record(**options: Any) -> None:
            calls.append((name, options))

        return SimpleNamespace(compile=record)

    class OnGpu(OneStepSRPipeline):
        device = torch.device("cuda")
        denoiser = network("denoiser")
        vae = SimpleNamespace(encoder=network("encoder"), decoder=network("decoder"))

        def __init__(self) -> None:
            pass

    compile_pipeline(OnGpu())
    assert [name for name, _ in calls] == ["denoiser", "encoder", "decoder"]
    assert all(options["mode"] == "reduce-overhead" for _, options in calls)


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
