"""Training on a CUDA device: a step equals the CPU's, runs can be resumed, and sharded by one process (FSDP2)."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor

from tests.process_group import in_processes
from tests.training.tiny import (
    TinyPrompts,
    config,
    mini_networks,
    sd3_config,
    sd3_networks,
    trainer,
    weights,
)
from tsdsr.training.run_log import make_accelerator
from tsdsr.training.samples import TrainingSample
from tsdsr.training.student import StudentTrainer

pytestmark = [pytest.mark.cuda, pytest.mark.filterwarnings("default")]


@pytest.fixture(autouse=True)
def _without_tf32() -> Iterator[None]:
    with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
        yield


def mini_run(photos: Path, out: Path, device: str) -> StudentTrainer:
    return trainer(photos, out, config(), networks=mini_networks(), accelerator=make_accelerator(out, device))


def sd3_run(photos: Path, out: Path, device: str) -> StudentTrainer:
    given = {"networks": sd3_networks(), "prompts": TinyPrompts(), "accelerator": make_accelerator(out, device)}
    return trainer(photos, out, sd3_config(), **given)


@pytest.mark.parametrize("make", [mini_run, sd3_run])
def test_a_step_without_noise_is_that_of_the_cpu(
    make: Callable[[Path, Path, str], StudentTrainer], photo_folder: Path, tmp_path: Path
) -> None:
    """Distillation draws other noise on a GPU; the losses against the truth, and their gradients, do not."""
    x_lq, x_hq = torch.rand(2, 1, 3, 64, 64)
    figures = []
    for device in ("cpu", "cuda"):
        run = make(photo_folder, tmp_path / device, device)
        phase = dataclasses.replace(run.config.phases[0], tsd=None, diverse_prompts=0.0)
        run.config = dataclasses.replace(run.config, phases=(phase,))
        place = run.device
        found = run.train_step([TrainingSample(torch.arange(1), x_lq.to(place), x_hq.to(place), [""], [""])])
        figures.append({name: float(value) for name, value in found.items()})
    assert figures[0].keys() == figures[1].keys()
    assert figures[0]["grad_norm/student"] > 0
    for name, value in figures[0].items():
        assert figures[1][name] == pytest.approx(value, rel=1e-3, abs=1e-6), name


@pytest.mark.parametrize("make", [mini_run, sd3_run])
def test_a_resumed_run_ends_where_a_whole_one_does(
    make: Callable[[Path, Path, str], StudentTrainer], photo_folder: Path, tmp_path: Path
) -> None:
    """Up to the order of sums, which some kernels of a GPU leave to chance."""
    start = weights(make(photo_folder, tmp_path / "start", "cuda"))
    whole = make(photo_folder, tmp_path / "whole", "cuda")
    whole.run()
    make(photo_folder, tmp_path / "parts", "cuda").run(until=1)
    rest = make(photo_folder, tmp_path / "parts", "cuda")
    assert rest.step == 1
    rest.run()
    expected, found = weights(whole), weights(rest)
    assert distance(found, expected) < 0.05 * distance(expected, start)


def distance(a: dict[str, Tensor], b: dict[str, Tensor]) -> float:
    return float(torch.cat([(a[key] - b[key]).float().flatten() for key in a]).norm())


def sharded_run(photos: Path, out: Path) -> None:
    """Train the tiny SD3 sharded, in a process group of one GPU."""
    given = {"networks": sd3_networks(), "prompts": TinyPrompts(), "accelerator": make_accelerator(out, "cuda")}
    trainer(photos, out, sd3_config(), shard="full", **given).run()


def test_a_sharded_run_of_one_process_equals_a_whole_one(photo_folder: Path, tmp_path: Path) -> None:
    whole, sharded = tmp_path / "whole", tmp_path / "sharded"
    sd3_run(photo_folder, whole, "cuda").run()
    in_processes(1, tmp_path / "group", sharded_run, photo_folder, sharded, backend="nccl", timeout=240)
    expected, found = (
        [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()] for out in (whole, sharded)
    )
    assert len(expected) == len(found) >= 2
    for a, b in zip(expected, found, strict=True):
        for name in ("loss/l1", "loss/student", "loss/fake"):
            assert b[name] == pytest.approx(a[name], rel=1e-2), name
