"""Quick stand-ins for what takes seconds or needs downloads, in this process: metrics, measuring, exporting."""

from __future__ import annotations

import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from torch import Tensor

from tsdsr.hashing import hash_bytes
from tsdsr.pipeline.diffusers_pipeline import OneStepSRPipeline
from tsdsr.runtimes.graphs import GraphInfo, write_onnx


class KeptGraphs:
    """Exports each graph once; a second pipeline with the same weights gets a copy.

    Args:
        folder (Path): keeps the graphs.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._known: dict[str, GraphInfo] = {}

    def write(self, pipe: OneStepSRPipeline, name: str, path: Path) -> GraphInfo:
        """Write a graph, in the place of :func:`tsdsr.runtimes.graphs.write_onnx`."""
        weights = [t.numpy().tobytes() for part in (pipe.denoiser, pipe.vae) for t in part.state_dict().values()]
        key = f"{name}-{hash_bytes(b''.join(weights))}"
        if key not in self._known:
            self._known[key] = write_onnx(pipe, name, self._folder / key)
        shutil.copy(self._folder / key, path)
        return self._known[key]


def use_stand_ins(monkeypatch: pytest.MonkeyPatch, graphs: KeptGraphs) -> None:
    """Use stand-ins until the end of a test."""
    monkeypatch.setattr("tsdsr.evaluation.scorer.make_metric", lambda *_: _closeness)
    monkeypatch.setattr("tsdsr.benchmark.runner.ProcessPoolExecutor", lambda count, _: ThreadPoolExecutor(count))
    monkeypatch.setattr("tsdsr.benchmark.runner._opened", [])
    monkeypatch.setattr("tsdsr.runtimes.export.write_onnx", graphs.write)


def _closeness(x_hat: Tensor, x_hq: Tensor) -> float:
    """PSNR, in the place of every metric: others need networks that take seconds to load, and weights."""
    return float(-10 * torch.log10((x_hat - x_hq).square().mean()))
