r"""Noising processes :math:`z_t = \alpha_t z + \sigma_t \epsilon`: coefficients, conversions and sampling steps.

Two families cover all base models:

* :class:`FlowMatching`: ``sigma = t / 1000``, ``alpha = 1 - sigma``; predicts ``v = eps - x0``.
* :class:`VariancePreserving`: ``alpha = sqrt(abar_t)``, ``sigma = sqrt(1 - abar_t)``; predicts ``eps`` or
  ``v = alpha eps - sigma x0``.

Everything here is plain tensor arithmetic, independent of any network. ``t`` is the model's time in ``[0, 1000]``
(flow matching) or ``[0, 999]`` (variance preserving), a scalar or one value per sample. Coefficients are computed in
at least float32. Results have the dtype of ``z_t``.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import torch
from torch import Tensor

from tsdsr.errors import ConfigError, InvalidInputError

Prediction = Literal["v", "eps"]
Time = float | Tensor


@dataclass(frozen=True)
class NoiseProcess(ABC):
    """Base class of all processes; subclasses define the coefficients and the native prediction.

    Attributes:
        num_train_timesteps (int): length of the base model's discrete training schedule.
        prediction ("v" | "eps"): quantity that the network predicts, its *native* space.
    """

    num_train_timesteps: int = 1000
    prediction: Prediction = "v"

    @property
    @abstractmethod
    def t_max(self) -> float:
        """Largest valid time."""

    @abstractmethod
    def coefficients(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """Compute ``(alpha_t, sigma_t)``.

        Args:
            t (Tensor): times in ``[0, t_max]``, any shape.

        Returns:
            tuple of Tensor: ``alpha_t`` and ``sigma_t``, shape of ``t``, at least float32.

        Raises:
            InvalidInputError: a time is outside the range. Not checked on an accelerator, to avoid a synchronisation.
        """

    @abstractmethod
    def to_x0(self, z_t: Tensor, pred: Tensor, t: Time) -> Tensor:
        """Convert a native prediction to the clean latent ``x0``.

        At the student's fixed time ``T`` and with ``z_t = z_lq``, this is the paper's one-step equation.

        Args:
            z_t (Tensor): noisy latent, shape (B, ...).
            pred (Tensor): native prediction, shape of ``z_t``.
            t (float | Tensor): time, scalar or shape (B,).
        """

    @abstractmethod
    def to_eps(self, z_t: Tensor, pred: Tensor, t: Time) -> Tensor:
        """Convert a native prediction to the noise ``eps``; arguments as in :meth:`to_x0`."""

    @abstractmethod
    def to_native(self, x0: Tensor, eps: Tensor, t: Time) -> Tensor:
        """Compute the training target: the native prediction that corresponds to ``x0`` and ``eps``.

        Args:
            x0 (Tensor): clean latent, shape (B, ...).
            eps (Tensor): noise, shape of ``x0``.
            t (float | Tensor): time, scalar or shape (B,).
        """

    def time_at(self, index: Tensor) -> Tensor:
        """Look up the time at a position of the scheduler's timestep list, which runs from noisy to clean.

        Args:
            index (Tensor): positions in ``[0, num_train_timesteps - 1]``, any shape; may be fractional.

        Returns:
            Tensor: times, same shape, at least float32.

        Raises:
            InvalidInputError: a position is outside the list. Not checked on an accelerator.
        """
        last = self.num_train_timesteps - 1
        if on_host(index) and index.numel() and not bool(((index >= 0) & (index <= last)).all()):
            raise InvalidInputError(f"positions must lie in [0, {last}], got {index.min():g} to {index.max():g}")
        return self._visit(_promote(index))

    def _visit(self, index: Tensor) -> Tensor:
        return self.num_train_timesteps - 1 - index

    def add_noise(self, z: Tensor, noise: Tensor, t: Time) -> Tensor:
        r"""Add noise to a clean latent: :math:`z_t = \alpha_t z + \sigma_t \epsilon`.

        Args:
            z (Tensor): clean latent, shape (B, ...).
            noise (Tensor): standard normal noise, shape of ``z``.
            t (float | Tensor): time, scalar or shape (B,).
        """
        alpha, sigma = self._broadcast(t, z)
        return (alpha * z + sigma * noise).to(z.dtype)

    def step(self, z_t: Tensor, pred: Tensor, t: Time, t_next: Time) -> Tensor:
        r"""One deterministic step from ``t`` to ``t_next``: :math:`z_{t'} = \alpha_{t'} x_0 + \sigma_{t'} \epsilon`.

        For flow matching this is the Euler step :math:`z_t + (\sigma_{t'} - \sigma_t) v`. For variance preserving
        processes it is the DDIM step with eta = 0.

        Args:
            z_t (Tensor): noisy latent, shape (B, ...).
            pred (Tensor): native prediction at ``t``, shape of ``z_t``.
            t (float | Tensor): time of ``z_t``, scalar or shape (B,).
            t_next (float | Tensor): target time, scalar or shape (B,).
        """
        alpha, sigma = self._broadcast(t_next, z_t)
        work = _promote(z_t)
        x0, eps = self.to_x0(work, pred, t), self.to_eps(work, pred, t)
        return (alpha * x0 + sigma * eps).to(z_t.dtype)

    def _broadcast(self, t: Time, like: Tensor) -> tuple[Tensor, Tensor]:
        """Compute coefficients on ``like``'s device, in at least float32, shaped to broadcast over (B, ...)."""
        dtype = _promote(like).dtype
        # A Python number is handled on the CPU, which avoids a device synchronisation.
        times = t.to(device=like.device, dtype=dtype) if isinstance(t, Tensor) else torch.tensor(t, dtype=dtype)
        if times.ndim > 1 or (times.ndim == 1 and times.shape[0] not in (1, like.shape[0])):
            raise InvalidInputError(
                f"t must be a scalar or have one value per sample ({like.shape[0]} here), got {tuple(times.shape)}"
            )
        alpha, sigma = self.coefficients(times)
        shape = (-1,) + (1,) * (like.ndim - 1)
        alpha, sigma = (c.to(like.device, dtype, non_blocking=True).reshape(shape) for c in (alpha, sigma))
        return alpha, sigma

    def _check_range(self, t: Tensor) -> None:
        if on_host(t) and t.numel() and not bool(((t >= 0) & (t <= self.t_max)).all()):
            low, high = float(t.min()), float(t.max())
            raise InvalidInputError(f"t must lie in [0, {self.t_max:g}], got values from {low:g} to {high:g}")


@dataclass(frozen=True)
class FlowMatching(NoiseProcess):
    """Rectified flow as in SD3 (Esser et al. 2024): ``sigma = t / 1000``, ``alpha = 1 - sigma``, ``v = eps - x0``.

    The scheduler's *shift* changes only which times are visited; SD3's times are already ``1000 sigma``.

    Attributes:
        shift (float): moves the visited times towards noise, ``s -> shift s / (1 + (shift - 1) s)``; SD3 uses 3.
    """

    shift: float = 1.0

    def __post_init__(self) -> None:
        if self.shift <= 0:
            raise ConfigError(f"shift must be positive, got {self.shift}")
        if self.prediction != "v":
            raise ConfigError("flow matching predicts the velocity: prediction must be 'v'")

    @property
    def t_max(self) -> float:
        return float(self.num_train_timesteps)

    def coefficients(self, t: Tensor) -> tuple[Tensor, Tensor]:
        t = _promote(t)
        self._check_range(t)
        sigma = t / self.num_train_timesteps
        return 1.0 - sigma, sigma

    def _visit(self, index: Tensor) -> Tensor:
        sigma = 1 - index / self.num_train_timesteps
        return self.num_train_timesteps * self.shift * sigma / (1 + (self.shift - 1) * sigma)

    def to_x0(self, z_t: Tensor, pred: Tensor, t: Time) -> Tensor:
        """``x0 = z_t - sigma_t v``; at ``T = 1000``, ``z_hat = z_lq - v``."""
        _, sigma = self._broadcast(t, z_t)
        return (z_t - sigma * pred).to(z_t.dtype)

    def to_eps(self, z_t: Tensor, pred: Tensor, t: Time) -> Tensor:
        """``eps = z_t + (1 - sigma_t) v``."""
        alpha, _ = self._broadcast(t, z_t)
        return (z_t + alpha * pred).to(z_t.dtype)

    def to_native(self, x0: Tensor, eps: Tensor, t: Time) -> Tensor:
        """``v = eps - x0``, independent of the time."""
        return eps - x0

    def step(self, z_t: Tensor, pred: Tensor, t: Time, t_next: Time) -> Tensor:
        """Euler step ``z_t + (sigma_next - sigma_t) v``; arguments as in :meth:`NoiseProcess.step`."""
        _, sigma = self._broadcast(t, z_t)
        _, sigma_next = self._broadcast(t_next, z_t)
        return (z_t + (sigma_next - sigma) * pred).to(z_t.dtype)


@dataclass(frozen=True)
class VariancePreserving(NoiseProcess):
    """DDPM noising as in Stable Diffusion 2: ``alpha = sqrt(abar)``, ``sigma = sqrt(1 - abar)``, scaled-linear betas.

    ``log abar`` is interpolated linearly between the integer times of the schedule, so ``t`` may be any real number.

    Attributes:
        beta_start (float): first beta of the schedule.
        beta_end (float): last beta of the schedule.
    """

    prediction: Prediction = "eps"
    beta_start: float = 0.00085
    beta_end: float = 0.012

    def __post_init__(self) -> None:
        if self.prediction not in ("eps", "v"):
            raise ConfigError(f"prediction must be 'eps' or 'v', got {self.prediction!r}")
        if not 0 < self.beta_start <= self.beta_end < 1:
            raise ConfigError("betas must satisfy 0 < beta_start <= beta_end < 1")

    @property
    def t_max(self) -> float:
        return float(self.num_train_timesteps - 1)

    def coefficients(self, t: Tensor) -> tuple[Tensor, Tensor]:
        t = _promote(t)
        self._check_range(t)
        table = _log_abar(self.num_train_timesteps, self.beta_start, self.beta_end, t.device)
        low = t.floor().long().clamp(max=self.num_train_timesteps - 2)
        log_abar = torch.lerp(table[low], table[low + 1], (t - low).to(table.dtype))
        return (0.5 * log_abar).exp().to(t.dtype), (-torch.expm1(log_abar)).sqrt().to(t.dtype)

    def to_x0(self, z_t: Tensor, pred: Tensor, t: Time) -> Tensor:
        """``x0 = (z_t - sigma eps) / alpha`` or ``x0 = alpha z_t - sigma v``."""
        alpha, sigma = self._broadcast(t, z_t)
        if self.prediction == "eps":
            return ((z_t - sigma * pred) / alpha).to(z_t.dtype)
        return (alpha * z_t - sigma * pred).to(z_t.dtype)

    def to_eps(self, z_t: Tensor, pred: Tensor, t: Time) -> Tensor:
        """The predicted ``eps``, or ``eps = sigma z_t + alpha v``."""
        if self.prediction == "eps":
            return pred.to(z_t.dtype)
        alpha, sigma = self._broadcast(t, z_t)
        return (sigma * z_t + alpha * pred).to(z_t.dtype)

    def to_native(self, x0: Tensor, eps: Tensor, t: Time) -> Tensor:
        """``eps``, or ``v = alpha eps - sigma x0``."""
        if self.prediction == "eps":
            return eps
        alpha, sigma = self._broadcast(t, x0)
        return (alpha * eps - sigma * x0).to(x0.dtype)


def on_host(x: Tensor) -> bool:
    """Whether the values of ``x`` can be read without waiting for a device."""
    return x.device.type == "cpu"


def _promote(x: Tensor) -> Tensor:
    """Convert half precision to float32, so that coefficients are never computed in half precision."""
    return x if x.dtype in (torch.float32, torch.float64) else x.float()


@lru_cache(maxsize=8)
def _log_abar(steps: int, beta_start: float, beta_end: float, device: torch.device) -> Tensor:
    """Log of the cumulative product of ``1 - beta`` for the scaled-linear schedule, float64, shape (steps,)."""
    betas = torch.linspace(beta_start**0.5, beta_end**0.5, steps, dtype=torch.float64).square()
    return torch.log1p(-betas).cumsum(0).to(device)
