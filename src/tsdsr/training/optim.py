"""A trained role: module, optimiser and loss scaling."""

from __future__ import annotations

from collections.abc import Container, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from diffusers.training_utils import EMAModel
from torch import Tensor, nn
from torch.nn.utils import clip_grads_with_norm_, get_total_norm

from tsdsr.training.checkpoint import is_sharded
from tsdsr.training.config import RunConfig
from tsdsr.training.sharding import local_part


class RoleOptimizer:
    """AdamW over a module's trained parameters, with gradient clipping and, in float16, its own loss scaling.

    Each role has its own scaler because loss magnitudes and overflows differ between roles.

    Args:
        module (nn.Module): module of the role. Unwrapped, so that names have no prefix.
        trained (mapping): its trained parameters by name.
        config (RunConfig): optimiser settings.
        device (torch.device): device of the module.
        dtype (torch.dtype): autocast precision.
    """

    def __init__(
        self,
        module: nn.Module,
        trained: Mapping[str, nn.Parameter],
        config: RunConfig,
        device: torch.device,
        dtype: torch.dtype,
    ) -> None:
        self.module, self.named = module, dict(trained)
        self.parameters = list(self.named.values())
        self.sharded = is_sharded(self.named)
        self._parts = [nn.Parameter(local_part(parameter)) for parameter in self.parameters] if self.sharded else []
        self.device, self.max_norm = device, config.max_grad_norm
        self.optimizer = torch.optim.AdamW(
            self.parameters, 0.0, betas=config.betas, weight_decay=config.weight_decay, fused=True
        )
        self.scaler = torch.amp.GradScaler(device.type, init_scale=2.0**12, enabled=dtype == torch.float16)

    def backward(self, loss: Tensor, accumulation: int) -> None:
        """Accumulate this micro-batch's share of the gradient."""
        self.scaler.scale(loss / accumulation).backward()  # type: ignore[no-untyped-call]

    def gradient(self, loss: Tensor, at: Tensor) -> Tensor:
        """Return a loss's gradient at a tensor, scaled on its way through the networks; weights get none."""
        scale = self.scaler.scale(torch.ones((), device=loss.device))
        (gradient,) = torch.autograd.grad(loss * scale, at)
        return gradient / scale

    def gradient_norm(self) -> Tensor:
        """Clip the accumulated gradients and return their norm before clipping; non-finite if any gradient is."""
        self.scaler.unscale_(self.optimizer)
        parts = self.parts()
        norm = get_total_norm([part.grad for part in parts if part.grad is not None])
        if self.sharded:
            squares = norm.square().to(self.device)
            torch.distributed.all_reduce(squares)
            norm = squares.sqrt()
        clip_grads_with_norm_(parts, self.max_norm, norm)
        return norm

    def parts(self) -> list[nn.Parameter]:
        """Return this process's parts of the trained weights with their gradients, sharing memory with them."""
        if not self.sharded:
            return self.parameters
        for part, parameter in zip(self._parts, self.parameters, strict=True):
            part.grad = None if parameter.grad is None else local_part(parameter.grad)
        return self._parts

    def step(self, learning_rate: float) -> None:
        """Take the step; the scaler skips it if gradients overflowed."""
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate
        self.scaler.step(self.optimizer)
        self.finish()

    def finish(self) -> None:
        """Clear the gradients, also after a skipped step."""
        if self.scaler.is_enabled():
            self.scaler.update()
        self.optimizer.zero_grad(set_to_none=True)
        self.parts()  # which must not keep them

    def first_not_finite(self) -> str | None:
        """Return the name of a trained weight that is not finite in this process's part; None if all are finite."""
        finite = torch.stack([torch.isfinite(p).all() for p in self.parts()]).tolist()
        return next((name for name, good in zip(self.named, finite, strict=True) if not good), None)

    @contextmanager
    def with_values(self, average: EMAModel) -> Iterator[None]:
        """Give the trained weights their averages within the block."""
        parts = self.parts()
        average.store(parts)
        average.copy_to(parts)
        try:
            yield
        finally:
            average.restore(parts)

    def _buffers(self) -> Iterator[tuple[str, Tensor]]:
        """Yield the buffers that training changes: those of spectral normalisation."""
        return ((name, b) for name, b in self.module.named_buffers() if "parametrizations." in name)

    def tensors(self) -> dict[str, Tensor]:
        """Return trained weights, changing buffers and AdamW's moments and step counts by name, not copied."""
        found = {f"weights.{name}": p.detach() for name, p in self.named.items()}
        found |= {f"buffers.{name}": buffer for name, buffer in self._buffers()}
        for name, parameter in self.named.items():
            moments = self.optimizer.state.get(parameter, {})
            found |= {f"{kind}.{name}": value for kind, value in moments.items()}
        return found

    def make_moments(self, names: Container[str]) -> None:
        """Allocate AdamW's moments for the weights that have some in a checkpoint, for its tensors to be read into.

        Args:
            names (container of str): names as in :meth:`tensors`.
        """
        state: dict[str, Any] = self.optimizer.state_dict()
        state["state"] = {
            number: {"step": torch.zeros(()), "exp_avg": torch.zeros_like(p), "exp_avg_sq": torch.zeros_like(p)}
            for number, (name, p) in enumerate(self.named.items())
            if f"exp_avg.{name}" in names
        }
        self.optimizer.load_state_dict(state)
