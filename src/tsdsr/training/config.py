"""The settings of a training run: frozen dataclasses that check themselves."""

from __future__ import annotations

import dataclasses
import json
import math
from dataclasses import dataclass, field
from typing import Any

from tsdsr.data.datasets import PairSettings
from tsdsr.errors import ConfigError


@dataclass(frozen=True)
class Phase:
    """A stretch of training with one set of weights.

    Attributes:
        steps (int): optimiser steps.
        batch_size (int): pairs a step.
        lr (tuple): learning rate at the start and at the end, joined by half a cosine.
        warmup (int): steps over which the rate rises linearly from zero first.
        l1_weight (float): weight of the pixel L1 term.
        perceptual_weight (float): weight of the LPIPS term; 0 leaves it out.
        perceptual_crop (int | None): edge of a random square LPIPS sees instead of the whole crop, to save time.
    """

    steps: int
    batch_size: int
    lr: tuple[float, float]
    warmup: int = 0
    l1_weight: float = 1.0
    perceptual_weight: float = 0.0
    perceptual_crop: int | None = None

    def __post_init__(self) -> None:
        if self.steps < 1 or self.batch_size < 1:
            raise ConfigError("a phase needs at least one step and one pair a step")
        if not 0 <= self.warmup <= self.steps:
            raise ConfigError(f"warmup must lie within the phase's {self.steps} steps, got {self.warmup}")

    def learning_rate(self, step: int) -> float:
        """The rate at step ``step`` of this phase, 0-based."""
        if step < self.warmup:
            return self.lr[0] * (step + 1) / self.warmup
        progress = (step - self.warmup) / max(1, self.steps - self.warmup)
        start, end = self.lr
        return end + 0.5 * (start - end) * (1 + math.cos(math.pi * progress))


@dataclass(frozen=True)
class StudentConfig:
    """Training of a one-step student with reconstruction losses.

    Attributes:
        phases (tuple of Phase): run one after the other.
        network (dict): arguments of :class:`tsdsr.models.mini.MiniUNet` that differ from the defaults.
        pairs (PairSettings): crops and degradation.
        ema_decay (float): decay of the exponential moving average whose weights are validated and shipped.
        betas (tuple): AdamW's.
        weight_decay (float): AdamW's.
        max_grad_norm (float): gradients are clipped to this norm.
        seed (int): base of all randomness.
        validation_share (float): share of the photographs held out.
        validation_crop (int): edge of the validation crops, one a held-out photograph.
        validate_every (int): steps between validations.
        checkpoint_every (int): steps between checkpoints.
        log_every (int): steps between log lines.
    """

    phases: tuple[Phase, ...]
    network: dict[str, Any] = field(default_factory=dict)
    pairs: PairSettings = field(default_factory=PairSettings)
    ema_decay: float = 0.999
    betas: tuple[float, float] = (0.9, 0.99)
    weight_decay: float = 1e-4
    max_grad_norm: float = 1.0
    seed: int = 0
    validation_share: float = 0.06
    validation_crop: int = 256
    validate_every: int = 500
    checkpoint_every: int = 200
    log_every: int = 20

    def __post_init__(self) -> None:
        if not self.phases:
            raise ConfigError("a run needs at least one phase")
        if not 0 < self.ema_decay < 1:
            raise ConfigError(f"ema_decay must lie in (0, 1), got {self.ema_decay}")
        if not 0 <= self.validation_share < 1:
            raise ConfigError(f"validation_share must lie in [0, 1), got {self.validation_share}")

    @property
    def total_steps(self) -> int:
        return sum(phase.steps for phase in self.phases)

    def locate(self, step: int) -> tuple[Phase, int]:
        """The phase of global step ``step`` and the step's number within it, both 0-based."""
        for phase in self.phases:
            if step < phase.steps:
                return phase, step
            step -= phase.steps
        raise ConfigError(f"step {step} lies beyond the last phase")

    def to_json(self) -> str:
        """A stable text form, stored in checkpoints to tell whether a run may be resumed."""
        return json.dumps(dataclasses.asdict(self), sort_keys=True)
