"""Stored weights get the permissions of the umask; safetensors alone would make them private."""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from tsdsr.models.lora import write_released_lora
from tsdsr.optimize.fold import fold
from tsdsr.pipeline.convert import save_pipeline
from tsdsr.pipeline.diffusers_pipeline import OneStepSRPipeline

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="POSIX permissions")


@pytest.fixture(params=[0o022, 0o027, 0o077], ids=oct)
def umask(request: pytest.FixtureRequest) -> Iterator[int]:
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


def check(folder: Path, umask: int) -> None:
    paths = [folder, *folder.rglob("*")]
    assert any(path.suffix == ".safetensors" for path in paths)
    for path in paths:
        wanted = (0o777 if path.is_dir() else 0o666) & ~umask
        assert stat.S_IMODE(path.stat().st_mode) == wanted, path


@pytest.mark.parametrize("folded", [False, True])
def test_pipelines(mini_pipe: OneStepSRPipeline, tmp_path: Path, umask: int, folded: bool) -> None:
    if folded:
        fold(mini_pipe)
    save_pipeline(mini_pipe, tmp_path / "model")
    check(tmp_path / "model", umask)
    mini_pipe.save_pretrained(tmp_path / "pretrained")
    check(tmp_path / "pretrained", umask)


def test_lora(tmp_path: Path, umask: int) -> None:
    write_released_lora(tmp_path / "lora" / "a.safetensors", {"m.lora_A.weight": torch.zeros(2, 3)})
    check(tmp_path / "lora", umask)


def test_exports(mini_pipe: OneStepSRPipeline, tmp_path: Path, umask: int) -> None:
    pytest.importorskip("onnxscript")
    from tsdsr.runtimes.export import export_pipeline

    if umask != 0o022:
        pytest.skip("one is enough, as an export takes seconds")
    export_pipeline(mini_pipe, tmp_path / "model")
    for path in (tmp_path / "model").rglob("*"):
        assert stat.S_IMODE(path.stat().st_mode) == 0o666 & ~umask, path
