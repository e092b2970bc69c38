"""Memory and operations of each device of a run."""

from __future__ import annotations

import dataclasses

import pytest

from tests.training.tiny import NETWORK, config
from tsdsr.errors import ConfigError
from tsdsr.recipes import student_recipe
from tsdsr.training.config import NetworkSettings, Phase, Schedule, StudentConfig, TeacherConfig, TSDSettings
from tsdsr.training.device_memory import estimate_devices
from tsdsr.training.weight_memory import networks_without_storage, weight_memory


def student(**changes: object) -> StudentConfig:
    phase = Phase(steps=10, batch_size=8, lr=(1e-3, 1e-3), l1_weight=1.0, tsd=TSDSettings(points=1))
    longer = dataclasses.replace(phase, tsd=TSDSettings(points=3))
    return dataclasses.replace(config(phases=(phase, longer)), **changes)  # type: ignore[arg-type]


def teraflops(line: str) -> float:
    return float(line.split(" TFLOP")[0].split()[-1])


def test_lines_of_a_student() -> None:
    first, second, whole = estimate_devices(student(), 1, "fp32")
    assert first.startswith("phase 1, 8 images at a time on each of 1 GPU: 0.0 GB; ")
    assert "sharded" not in first
    halved, _, same = estimate_devices(student(), 2, "fp32")
    assert halved.startswith("phase 1, 4 images at a time on each of 2 GPUs: 0.0 GB, or 0.0 GB sharded; ")
    assert teraflops(halved) == pytest.approx(teraflops(first) / 2, rel=0.01)
    accumulated = next(estimate_devices(student(accumulation=2), 2, "fp32"))
    assert accumulated.startswith("phase 1, 2 images at a time")
    assert teraflops(accumulated) == pytest.approx(teraflops(halved), rel=0.01)
    assert whole == same
    total = float(whole.removesuffix(" EFLOP").split()[-1])
    assert total == pytest.approx((10 * teraflops(first) + 10 * teraflops(second)) * 1e-6, rel=0.02)
    assert teraflops(second) > 1.5 * teraflops(first)


def test_a_teacher() -> None:
    cfg = TeacherConfig(
        phases=(Schedule(steps=10, batch_size=4, lr=(1e-3, 1e-3)),), networks=NetworkSettings(config=NETWORK)
    )
    line, _ = estimate_devices(cfg, 4)
    assert line.startswith("phase 1, 1 image at a time on each of 4 GPUs")


def test_what_cannot_be_split_or_computed_is_refused() -> None:
    with pytest.raises(
        ConfigError, match="batch_size 8 of phase 1 is not a multiple of 3 processes times 1 micro-batch"
    ):
        next(estimate_devices(student(), 3))
    with pytest.raises(ConfigError, match="base_precision=bf16 needs"):
        next(estimate_devices(student_recipe("sd3_paper"), 1, "fp32"))


def test_weights_of_sd3_over_eight_devices() -> None:
    """24 equal blocks of 2 bytes a weight; two of them whole, and what is outside of blocks."""
    modules, roles = networks_without_storage(student_recipe("sd3_paper"))
    memory = weight_memory(modules, roles)
    assert memory.whole / 1e9 == pytest.approx(6.86, abs=0.01)
    denoiser = modules[0].denoiser
    blocks = [sum(p.numel() * p.element_size() for p in b.parameters()) for b in denoiser.transformer_blocks]
    outside = sum(p.numel() * p.element_size() for p in denoiser.parameters()) - sum(blocks)
    assert memory.gathered == outside + 2 * max(blocks)
    assert memory.sharded(8) == pytest.approx(memory.whole / 8 + memory.gathered, abs=1)
    assert memory.gathered < 0.2 * memory.whole
