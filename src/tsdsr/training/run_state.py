"""What training changes: the state of all roles and the average, as named tensors and a few numbers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from diffusers.training_utils import EMAModel
from torch import Tensor

from tsdsr.training.checkpoint import Checkpoint
from tsdsr.training.optim import RoleOptimizer
from tsdsr.training.sharding import sharded_like


@dataclass(frozen=True)
class RunState:
    """A view of a run's state; nothing is copied.

    Attributes:
        roles (mapping): trained roles by name.
        ema (EMAModel | None): average of a role's weights, or of this process's parts of them.
        averaged (str): name of that role.
    """

    roles: Mapping[str, RoleOptimizer]
    ema: EMAModel | None
    averaged: str

    def tensors(self) -> dict[str, Tensor]:
        """Return weights, changing buffers, moments and averages by role, kind and name; sharded as the weights are."""
        found = {f"{role}.{k}": v for role, trained in self.roles.items() for k, v in trained.tensors().items()}
        if self.ema is not None:
            averages = zip(self.roles[self.averaged].named.items(), self.ema.shadow_params, strict=True)
            found |= {f"average.{name}": sharded_like(average, weight) for (name, weight), average in averages}
        return found

    def facts(self) -> dict[str, Any]:
        """Return what is no tensor, as JSON values: loss scales, and the number of averaged steps."""
        return {
            "scalers": {name: role.scaler.state_dict() for name, role in self.roles.items()},
            "averaged_steps": 0 if self.ema is None else self.ema.optimization_step,
        }

    def prepare(self, checkpoint: Checkpoint) -> None:
        """Take over a checkpoint's :meth:`facts`, and allocate moments for its tensors."""
        for name, role in self.roles.items():
            prefix = f"{name}."
            role.make_moments({k.removeprefix(prefix) for k in checkpoint.names if k.startswith(prefix)})
            role.scaler.load_state_dict(checkpoint.facts["scalers"][name])
        if self.ema is not None:
            self.ema.optimization_step = checkpoint.facts["averaged_steps"]
