"""The Distribution-Aware Sampling Module: a paired walk of ``z_hat`` and ``z_hq`` from a noisy time to cleaner ones."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from tsdsr.diffusion.losses import Predictions, WalkPoint
from tsdsr.diffusion.process import NoiseProcess
from tsdsr.errors import InvalidInputError

Predict = Callable[[Tensor, Tensor, Tensor], Predictions]
"""``(z_hat_t, z_hq_t, t) → Predictions``: asks teacher and fake, with guidance where it is wanted."""


def walk_positions(start: Tensor, points: int, size: float, last: int = 999, shifts: Tensor | None = None) -> Tensor:
    """Positions in the scheduler's list at which a walk compares the networks.

    The walk covers ``points * size`` positions towards less noise, or what is left of the list: its steps are squeezed,
    not cut off, when it would run over the end.

    Args:
        start (Tensor): where each sample begins, 0 the noisiest, shape (B,).
        points (int): number N of points; 1 is plain TSD.
        size (float): step s in positions.
        last (int): last position of the list.
        shifts (Tensor | None): added to every point but the first, shape (N - 1, B); points keep their order.

    Returns:
        Tensor: whole positions in float, shape (N, B), each row at or after the one before.

    Raises:
        InvalidInputError: N or s is not positive.
    """
    if points < 1 or size <= 0:
        raise InvalidInputError(f"a walk needs at least one point and a positive step, got N={points}, s={size}")
    start = start.double()
    end = (start + points * size).clamp(max=last)
    fractions = torch.arange(points, dtype=torch.float64, device=start.device)[:, None] / points
    positions = start + fractions * (end - start)
    if shifts is not None:
        positions = torch.cat([positions[:1], positions[1:] + shifts]).clamp(max=last).cummax(0).values
    return positions.floor().float()


def paired_walk(
    process: NoiseProcess, predict: Predict, z_hat: Tensor, z_hq: Tensor, noise: Tensor, times: Tensor
) -> Iterator[WalkPoint]:
    """Eq. 6: noise both latents alike, then step both towards less noise, comparing the networks at every point.

    The walk of ``z_hat`` is driven by the fake network, which has learned its distribution, that of ``z_hq`` by the
    teacher: ``z_{t'} = step(z_t, prediction, t, t')``, the Euler step for flow matching, the DDIM step otherwise.
    Nothing here is differentiated.

    Args:
        process (NoiseProcess): noising and steps.
        predict (callable): see :data:`Predict`.
        z_hat, z_hq, noise (Tensor): shape (B, C, h, w).
        times (Tensor): time of each point and sample, shape (N, B).

    Yields:
        WalkPoint: N of them.
    """
    with torch.no_grad():
        z_hat_t = process.add_noise(z_hat.detach(), noise, times[0])
        z_hq_t = process.add_noise(z_hq.detach(), noise, times[0])
    for k, t in enumerate(times):
        with torch.no_grad():
            predictions = predict(z_hat_t, z_hq_t, t)
        yield WalkPoint(t, z_hat_t, z_hq_t, predictions)
        if k + 1 < len(times):
            with torch.no_grad():
                z_hat_t = process.step(z_hat_t, predictions.fake_hat, t, times[k + 1])
                z_hq_t = process.step(z_hq_t, predictions.teacher_hq, t, times[k + 1])
