"""Run one or two steps of a tiny student and record observable values."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor

from tests.training.golden_runs import MadeUpSamples, phase, student, two_phases
from tsdsr.training.config import StudentConfig, TSDSettings
from tsdsr.training.engine import Engine
from tsdsr.training.student import StudentTrainer

SHOWN: set[str] = set()
"""Settings whose effect a test asserts, as ``Class.field``; :func:`shows` adds them."""

F = TypeVar("F", bound=Callable[..., None])


def shows(*settings: str) -> Callable[[F], F]:
    """Mark a test as one that asserts the effect of these settings."""
    SHOWN.update(settings)
    return lambda test: test


@dataclass
class Seen:
    """What a few steps gave.

    Attributes:
        run (StudentTrainer): after the steps.
        records (list): what was logged, one a step.
        gradients (dict): role → its gradients before clipping, flat, one a step.
        clipped (dict): the same as the optimiser got them.
        rates (dict): role → learning rates.
        before (dict): role → weights at the start, flat.
    """

    run: StudentTrainer
    records: list[dict[str, float]] = field(default_factory=list)
    gradients: dict[str, list[Tensor]] = field(default_factory=dict)
    clipped: dict[str, list[Tensor]] = field(default_factory=dict)
    rates: dict[str, list[float]] = field(default_factory=dict)
    before: dict[str, Tensor] = field(default_factory=dict)

    def change(self, role: str = "student") -> Tensor:
        """By how much a role's weights moved."""
        return flat(self.run.roles[role].parameters) - self.before[role]


def flat(tensors: list[Any]) -> Tensor:
    """All values in one vector, float64; what is None counts as nothing."""
    return torch.cat([t.detach().double().flatten() for t in tensors if t is not None])


def single(steps: int = 1, tsd: TSDSettings | None = None, config: dict[str, Any] | None = None, **changes: Any) -> Any:
    """A configuration of one phase of a tiny `mini`."""
    one = phase(steps, tsd=tsd, **changes)
    return dataclasses.replace(two_phases({}, {}), phases=(one,), **(config or {}))


def watch(run: StudentTrainer) -> Seen:
    """Note gradients and rates of every step from now on."""
    seen = Seen(run)
    for name, role in run.roles.items():
        seen.before[name] = flat(role.parameters)

        def norm(role: Any = role, name: str = name, honest: Any = role.gradient_norm) -> Tensor:
            seen.gradients.setdefault(name, []).append(flat([p.grad for p in role.parameters]))
            value: Tensor = honest()
            return value

        def step(rate: float, role: Any = role, name: str = name, honest: Any = role.step) -> None:
            seen.clipped.setdefault(name, []).append(flat([p.grad for p in role.parameters]))
            seen.rates.setdefault(name, []).append(rate)
            honest(rate)

        role.gradient_norm, role.step = norm, step  # type: ignore[method-assign,assignment]
    return seen


def observe(config: StudentConfig, out: Path, prepare: Callable[[StudentTrainer], None] | None = None) -> Seen:
    """Train by a configuration, in a new folder below ``out``.

    Args:
        config (StudentConfig): all of its steps are taken.
        out (Path): parent of run folders.
        prepare (callable | None): changes the trainer before the first step.
    """
    folder = out / str(len(list(out.iterdir())))
    run = student(config, folder)
    run.dataset = MadeUpSamples  # type: ignore[method-assign]
    if prepare is not None:
        prepare(run)
    seen = watch(run)
    quietly(run)
    seen.records = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    return seen


def quietly(run: Engine) -> None:
    """Train to the end without printing."""
    with contextlib.redirect_stdout(io.StringIO()):
        run.run()
