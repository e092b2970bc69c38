"""Distribution-Aware Sampling Module (DASM): a paired walk of ``z_hat`` and ``z_hq`` towards less noise."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from tsdsr.diffusion.losses import Predictions, WalkPoint
from tsdsr.diffusion.process import NoiseProcess
from tsdsr.errors import InvalidInputError

Predict = Callable[[Tensor, Tensor, Tensor], Predictions]
"""``(z_hat_t, z_hq_t, t) → Predictions``: runs teacher and fake, with guidance if configured."""


def walk_positions(start: Tensor, points: int, size: float, last: int = 999, shifts: Tensor | None = None) -> Tensor:
    """Compute the positions in the scheduler's timestep list that a walk visits.

    The walk covers ``points * size`` positions towards less noise. If the list ends earlier, the steps shrink so that
    the walk fits.

    Args:
        start (Tensor): first position of each sample, shape (B,); 0 is the noisiest.
        points (int): number N of points; 1 is plain TSD.
        size (float): step s in positions.
        last (int): last position of the list.
        shifts (Tensor | None): offsets for every point but the first, shape (N - 1, B); points keep their order.

    Returns:
        Tensor: integer positions as float, shape (N, B), non-decreasing along N.

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
    """Walk both latents from the same noise towards less noise, eq. 6.

    Adds the same noise to ``z_hat`` and ``z_hq``, then steps both from point to point and predicts at every point.
    ``z_{t'} = step(z_t, prediction, t, t')`` is the Euler step for flow matching and the DDIM step otherwise.
    ``z_hat`` follows the fake network, which models the student's distribution; ``z_hq`` follows the teacher.
    No gradients are recorded.

    Args:
        process (NoiseProcess): noising process, used to add noise and to step.
        predict (callable): see :data:`Predict`.
        z_hat (Tensor): clean latents of the student, shape (B, C, h, w).
        z_hq (Tensor): clean latents of the true images, same shape.
        noise (Tensor): standard normal noise, same shape.
        times (Tensor): time of each point and sample, shape (N, B).

    Yields:
        WalkPoint: the N points in order.
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
