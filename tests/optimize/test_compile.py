"""Compiled pipelines: the same pictures, and a clear error where there is no compiler."""

from __future__ import annotations

import sysconfig
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

import tsdsr.optimize.compile as compile_module
from tests.conftest import randomise
from tsdsr.errors import MissingDependencyError
from tsdsr.models.mini import MiniUNet
from tsdsr.optimize.compile import compile_pipeline, require_compiler
from tsdsr.pipeline.pipeline import OneStepSRPipeline


def test_a_missing_compiler_is_named(mini_pipe: OneStepSRPipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compile_module.shutil, "which", lambda _: None)
    with pytest.raises(MissingDependencyError, match=r"C\+\+ compiler.*leave the flag out"):
        compile_pipeline(mini_pipe)
    monkeypatch.setattr(compile_module, "find_spec", lambda _: None)
    with pytest.raises(MissingDependencyError, match="Triton"):
        require_compiler(torch.device("cuda"))


def test_on_a_gpu_everything_becomes_a_graph(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compile_module, "find_spec", lambda _: object())
    calls: list[tuple[str, dict[str, Any]]] = []

    def network(name: str) -> Any:
        def record(**options: Any) -> None:
            calls.append((name, options))

        return SimpleNamespace(compile=record)

    vae = SimpleNamespace(encoder=network("encoder"), decoder=network("decoder"))
    pipe: Any = SimpleNamespace(device=torch.device("cuda"), denoiser=network("denoiser"), vae=vae)
    compile_pipeline(pipe)
    assert [name for name, _ in calls] == ["denoiser", "encoder", "decoder"]
    assert all(options["mode"] == "reduce-overhead" for _, options in calls)


@pytest.fixture
def compiler(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Skips without a compiler; compiled code stays in the test's folder and in this process."""
    try:
        require_compiler(torch.device("cpu"))
    except MissingDependencyError as error:
        pytest.skip(str(error))
    if not Path(sysconfig.get_paths()["include"], "Python.h").exists():
        pytest.skip("Python's headers are not installed")
    import torch._inductor.config as inductor

    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "inductor"))
    monkeypatch.setattr(inductor, "compile_threads", 1)
    return torch._dynamo.reset


@pytest.mark.filterwarnings("ignore")  # inductor's own
def test_compiled_is_equal_to_eager(mini_pipe: OneStepSRPipeline, compiler: Callable[[], None]) -> None:
    network = randomise(MiniUNet(channels=[8], encoder_blocks=[1], decoder_blocks=[], embed_dim=8)).eval()
    pipe = OneStepSRPipeline(network, mini_pipe.vae, mini_pipe.prompt)
    x = torch.rand(1, 3, 16, 16)
    eager = pipe(x, scale=1).images
    try:
        compiled = compile_pipeline(pipe)(x, scale=1).images
    finally:
        compiler()
    assert network._compiled_call_impl is not None
    assert float((eager - compiled).abs().max()) < 1e-5
