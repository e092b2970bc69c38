"""One trained role: its module, its optimiser, its loss scaling."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from tsdsr.training.config import RunConfig


class RoleOptimizer:
    """AdamW over the trained parameters of a module, with gradient clipping and, in float16, loss scaling of its own.

    Each role has its own scaler, as loss magnitudes and overflows differ between roles.

    Args:
        module (nn.Module): parameters that require gradients are trained; not wrapped, so that names are its own.
        config (RunConfig): optimiser settings.
        device (torch.device): where it runs.
        dtype (torch.dtype): autocast precision.
    """

    def __init__(self, module: nn.Module, config: RunConfig, device: torch.device, dtype: torch.dtype) -> None:
        self.module = module
        self.named = {name: p for name, p in module.named_parameters() if p.requires_grad}
        self.parameters = list(self.named.values())
        self.max_norm = config.max_grad_norm
        self.optimizer = torch.optim.AdamW(self.parameters, 0.0, betas=config.betas, weight_decay=config.weight_decay)
        self.scaler = torch.amp.GradScaler(device.type, init_scale=2.0**12, enabled=dtype == torch.float16)

    def backward(self, loss: Tensor, accumulation: int) -> None:
        """Add this micro-batch's share of the gradient."""
        self.scaler.scale(loss / accumulation).backward()  # type: ignore[no-untyped-call]

    def gradient_norm(self) -> Tensor:
        """Clip the accumulated gradients and return their norm before that; not finite when they are not."""
        self.scaler.unscale_(self.optimizer)
        norm: Tensor = torch.nn.utils.clip_grad_norm_(self.parameters, self.max_norm)
        return norm

    def step(self, learning_rate: float) -> None:
        """Take the step; the scaler leaves it out when gradients overflowed."""
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate
        self.scaler.step(self.optimizer)
        self.finish()

    def finish(self) -> None:
        """Forget the gradients; also after a step that is skipped."""
        if self.scaler.is_enabled():
            self.scaler.update()
        self.optimizer.zero_grad(set_to_none=True)

    def _buffers(self) -> Iterator[tuple[str, Tensor]]:
        """The buffers that training moves: those of spectral normalisation."""
        return ((name, b) for name, b in self.module.named_buffers() if "parametrizations." in name)

    def state_dict(self) -> dict[str, Any]:
        """Trained weights, moving buffers, optimiser and scaler."""
        return {
            "weights": {name: p.detach() for name, p in self.named.items()},
            "buffers": dict(self._buffers()),
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Put back what :meth:`state_dict` gave."""
        with torch.no_grad():
            for name, parameter in self.named.items():
                parameter.copy_(state["weights"][name])
            for name, buffer in self._buffers():
                buffer.copy_(state["buffers"][name])
        self.optimizer.load_state_dict(state["optimizer"])
        self.scaler.load_state_dict(state["scaler"])
