"""What a run needs of each of its devices: memory, with and without sharding, and floating point operations."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import nn

from tsdsr.models.zoo import get_spec
from tsdsr.training.build import DTYPES
from tsdsr.training.config import Phase, Precision, RunConfig, Schedule, StudentConfig, TeacherConfig
from tsdsr.training.launch import check_fit
from tsdsr.training.networks import Networks, ScoreNetworks, Student
from tsdsr.training.step_cost import StepCost, student_step_cost, teacher_step_cost
from tsdsr.training.weight_memory import networks_without_storage, weight_memory
from tsdsr.wording import counted


def estimate_devices(config: RunConfig, devices: int, precision: Precision = "bf16") -> Iterator[str]:
    """Describe what each device of a run needs.

    Activations are counted by running a step without values, see :mod:`tsdsr.training.step_cost`; this takes seconds
    to minutes for a full-size network. The memory that CUDA and its libraries take for themselves, and unused gaps
    between tensors, come on top.

    Args:
        config (RunConfig): settings of a student or a teacher.
        devices (int): number of processes with one device each, at least 1.
        precision ("fp32" | "bf16" | "fp16"): of autocast; fp32 means none.

    Yields:
        str: a line for each phase, in GB of 1e9 bytes.

    Raises:
        ConfigError: see :func:`~tsdsr.training.launch.check_fit`.
        MissingDependencyError: a perceptual loss needs lpips, which is not installed.
    """
    check_fit(config, devices, DTYPES[precision])
    share = devices * config.accumulation
    modules, roles = networks_without_storage(config)
    weights = weight_memory(modules, roles)
    total = 0
    costs: dict[tuple[object, ...], StepCost] = {}
    for number, phase in enumerate(config.phases, 1):
        if (kind := _kind(phase)) not in costs:
            costs[kind] = step_cost(config, modules, phase, phase.batch_size // share, DTYPES[precision])
        cost = costs[kind]
        points = phase.tsd.points if isinstance(phase, Phase) and phase.tsd is not None else 1
        operations = cost.operations(points) * config.accumulation
        total += operations * devices * phase.steps
        memory = f"{(weights.whole + cost.activations) / 1e9:.1f} GB"
        if devices > 1:
            memory += f", or {(weights.sharded(devices) + cost.activations) / 1e9:.1f} GB sharded"
        yield (
            f"phase {number}, {counted(phase.batch_size // share, 'image')} at a time on each of "
            f"{counted(devices, 'GPU')}: {memory}; {cost.activations / 1e9:.2f} GB of it for activations; "
            f"{operations / 1e12:.3g} TFLOP a step"
        )
    yield f"all steps on all GPUs: {total / 1e18:.3g} EFLOP"


def _kind(phase: Schedule) -> tuple[object, ...]:
    """What the cost of a micro-batch depends on; the number of points is a factor of the walk's part."""
    if not isinstance(phase, Phase):
        return (phase.batch_size,)
    walk = phase.tsd and (phase.tsd.guidance == 1, phase.tsd.batched)
    return phase.batch_size, bool(phase.perceptual_weight), phase.perceptual_crop, walk, phase.needs_scores


def step_cost(config: RunConfig, modules: list[nn.Module], phase: Schedule, batch: int, dtype: torch.dtype) -> StepCost:
    """Count a micro-batch of a phase on networks from :func:`networks_without_storage`."""
    spec = get_spec(config.networks.model)
    if isinstance(config, StudentConfig):
        student, *scores, vae = modules
        assert isinstance(student, Student)
        pair = next((module for module in scores if isinstance(module, ScoreNetworks)), None)
        networks = Networks(student, pair, vae, config.networks.lora_rank is not None)
        return student_step_cost(networks, spec, phase, config.pairs.crops.size, batch, dtype)  # type: ignore[arg-type]
    assert isinstance(config, TeacherConfig)
    network, vae = modules
    return teacher_step_cost(network, vae, spec, config.crops.size, batch, dtype)
