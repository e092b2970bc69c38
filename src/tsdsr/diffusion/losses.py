r"""Training losses, one function per equation. All take and return plain tensors.

The distillation losses have no closed form and are defined by their gradient with respect to ``z_hat``. Functions
ending in ``_gradient`` compute that gradient. :func:`gradient_loss` turns it into a scalar loss with the same backward
pass.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Literal, NamedTuple, get_args

import torch
import torch.nn.functional as F
from torch import Tensor

from tsdsr.diffusion.process import NoiseProcess, Time
from tsdsr.errors import ConfigError, InvalidInputError

Space = Literal["native", "eps"]
Omega = Literal["sigma2", "one", "snr"]


class Predictions(NamedTuple):
    """Teacher and fake predictions at one point of the walk, each of shape (B, C, h, w).

    Attributes:
        teacher_hat: the teacher's prediction at ``z_hat_t``.
        fake_hat: the fake network's prediction at ``z_hat_t``.
        teacher_hq: the teacher's prediction at ``z_hq_t`` and the same ``t``; at the first point the noise is also
            the same.
    """

    teacher_hat: Tensor
    fake_hat: Tensor
    teacher_hq: Tensor


class WalkPoint(NamedTuple):
    """One point of the paired walk of ``z_hat`` and ``z_hq``.

    Attributes:
        t (Tensor): time of each sample, shape (B,).
        z_hat_t (Tensor): the student's noisy latents at ``t``, shape (B, C, h, w).
        z_hq_t (Tensor): the true images' noisy latents at ``t``, same shape.
        predictions (Predictions): network predictions at ``t``.
    """

    t: Tensor
    z_hat_t: Tensor
    z_hq_t: Tensor
    predictions: Predictions


class TSDGradient(NamedTuple):
    """Gradients with respect to ``z_hat``, summed over the walk, (B, C, h, w); ``tsd`` is the weighted sum (eq. 5)."""

    tsd: Tensor
    vsd: Tensor
    tsm: Tensor


class ReconstructionTerms(NamedTuple):
    """The weighted sum and its unweighted terms, all scalars."""

    total: Tensor
    l1: Tensor
    perceptual: Tensor
    latent_mse: Tensor


def guided(conditional: Tensor, unconditional: Tensor, scale: float) -> Tensor:
    """Apply classifier-free guidance (Ho and Salimans 2022): ``u + scale (c - u)``.

    Args:
        conditional (Tensor): prediction ``c``.
        unconditional (Tensor): prediction ``u``, same shape.
        scale (float): guidance scale; 1 gives the conditional prediction, 0 the unconditional one.
    """
    return torch.lerp(unconditional, conditional, scale)


def omega(process: NoiseProcess, t: Tensor, like: Tensor, kind: Omega = "sigma2") -> Tensor:
    r"""Compute the time-dependent weight :math:`\omega(t)` of eqs. 3 to 5.

    Args:
        process (NoiseProcess): noising process that provides the coefficients.
        t (Tensor): time of each sample, shape (B,).
        like (Tensor): the tensor to be weighted, shape (B, C, h, w).
        kind ("sigma2" | "one" | "snr"): :math:`\sigma_t^2` as in the released code, 1, or
            :math:`\alpha_t^2 / (\alpha_t^2 + \sigma_t^2)`, which favours low noise.

    Returns:
        Tensor: weights that broadcast over ``like``, in its dtype.

    Raises:
        ConfigError: ``kind`` is unknown.
    """
    alpha, sigma = process.coefficients(t.to(like.device, torch.promote_types(like.dtype, torch.float32)))
    if kind == "sigma2":
        weight = sigma.square()
    elif kind == "one":
        weight = torch.ones_like(sigma)
    elif kind == "snr":
        weight = alpha.square() / (alpha.square() + sigma.square())
    else:
        raise ConfigError(f"unknown omega {kind!r}; choose from {', '.join(get_args(Omega))}")
    return weight.reshape(-1, *(1,) * (like.ndim - 1)).to(like.dtype)


def vsd_gradient(teacher_hat: Tensor, fake_hat: Tensor, weight: Tensor | float = 1.0) -> Tensor:
    r"""Gradient of variational score distillation (VSD), eq. 3.

    :math:`\omega(t) (\epsilon_\psi(\hat z_t; t, c) - \epsilon_\phi(\hat z_t; t, c))`

    Args:
        teacher_hat (Tensor): the teacher's prediction at ``z_hat_t``, (B, C, h, w).
        fake_hat (Tensor): the fake network's prediction at ``z_hat_t``, same shape.
        weight (Tensor | float): ``omega(t)``.
    """
    return weight * (teacher_hat - fake_hat)


def tsm_gradient(teacher_hat: Tensor, teacher_hq: Tensor, weight: Tensor | float = 1.0) -> Tensor:
    r"""Gradient of target score matching (TSM), eq. 4.

    :math:`\omega(t) (\epsilon_\psi(\hat z_t; t, c) - \epsilon_\psi(z^{hq}_t; t, c))`

    Args:
        teacher_hat (Tensor): the teacher's prediction at ``z_hat_t``, (B, C, h, w).
        teacher_hq (Tensor): the teacher's prediction at ``z_hq_t``, same shape, time and noise.
        weight (Tensor | float): ``omega(t)``.
    """
    return weight * (teacher_hat - teacher_hq)


def tsd_gradient(
    process: NoiseProcess,
    walk: Iterable[WalkPoint],
    step_weights: Sequence[float] = (1.0, 0.3, 0.3, 0.3),
    lambda_vsd: float = 0.7,
    lambda_tsm: float = 0.3,
    omega_kind: Omega = "sigma2",
    space: Space = "native",
) -> TSDGradient:
    r"""Gradient of target score distillation (TSD), eq. 5, summed over the points of a walk.

    :math:`\sum_k w_k (\lambda_{vsd} g^{vsd}_k + \lambda_{tsm} g^{tsm}_k)`

    Args:
        process (NoiseProcess): noising process, used for ``omega`` and to convert predictions.
        walk (iterable of WalkPoint): points to compare: one for plain TSD, several for DASM.
        step_weights (sequence of float): ``w_k``, at least one per point; extra weights are ignored.
        lambda_vsd (float): weight of eq. 3.
        lambda_tsm (float): weight of eq. 4.
        omega_kind (str): see :func:`omega`.
        space ("native" | "eps"): space in which predictions are compared. The direction of VSD does not depend on it,
            that of TSM does. For flow matching ``d_eps = (1 - sigma) (d_v + z_hat - z_hq)``: comparing velocities
            pulls less towards ``z_hq`` than comparing noises, and pushes away from it where the noise is too weak for
            the teacher to tell the two latents apart.

    Returns:
        TSDGradient: gradients of shape (B, C, h, w), not divided by the number of elements.

    Raises:
        InvalidInputError: the walk is empty or longer than ``step_weights``.
    """
    vsd: Tensor | None = None
    tsm: Tensor | None = None
    for k, point in enumerate(walk):
        if k >= len(step_weights):
            raise InvalidInputError(f"the walk has more points than the {len(step_weights)} step weights")
        p = in_space(process, point, space)
        weight = step_weights[k] * omega(process, point.t, p.teacher_hat, omega_kind)
        g_vsd = vsd_gradient(p.teacher_hat, p.fake_hat, weight)
        g_tsm = tsm_gradient(p.teacher_hat, p.teacher_hq, weight)
        vsd = g_vsd if vsd is None else vsd + g_vsd
        tsm = g_tsm if tsm is None else tsm + g_tsm
    if vsd is None or tsm is None:
        raise InvalidInputError("the walk has no points")
    return TSDGradient(lambda_vsd * vsd + lambda_tsm * tsm, vsd, tsm)


def in_space(process: NoiseProcess, point: WalkPoint, space: Space) -> Predictions:
    """Convert the predictions of a point to ``space``: the network's native space or noise.

    Clean latents are not offered: their difference has the right sign for TSM but the opposite sign for VSD.

    Raises:
        ConfigError: ``space`` is unknown.
    """
    p, t = point.predictions, point.t
    if space == "native":
        return p
    if space == "eps":
        return Predictions(
            process.to_eps(point.z_hat_t, p.teacher_hat, t),
            process.to_eps(point.z_hat_t, p.fake_hat, t),
            process.to_eps(point.z_hq_t, p.teacher_hq, t),
        )
    raise ConfigError(f"unknown space {space!r}; choose from {', '.join(get_args(Space))}")


def gradient_loss(z_hat: Tensor, gradient: Tensor) -> Tensor:
    r"""Scalar loss whose gradient at ``z_hat`` is ``g / numel``: :math:`½ mean((\hat z - sg(\hat z - g))^2)`.

    Do not call it under ``no_grad``: this loss is the only path from the teacher to the student's weights.

    Args:
        z_hat (Tensor): the student's latents, attached to the autograd graph.
        gradient (Tensor): gradient ``g``, same shape.

    Raises:
        InvalidInputError: ``z_hat`` does not require grad, so the loss would train nothing.
    """
    if not z_hat.requires_grad:
        raise InvalidInputError("z_hat carries no gradient: the loss must be computed outside of no_grad")
    z = z_hat.float()
    return 0.5 * F.mse_loss(z, (z - gradient.float()).detach())


def fake_loss(
    process: NoiseProcess, prediction: Tensor, z_hat: Tensor, noise: Tensor, t: Time, weight: Tensor | float = 1.0
) -> Tensor:
    r"""Diffusion loss of the fake network, eq. 9: mean of :math:`w(t) (\epsilon_\phi(\hat z_t; t, c) - target)^2`.

    The target is computed from the clean latent and the noise: ``eps - z_hat`` for flow matching. A teacher is trained
    with the same loss, with HQ latents in place of ``z_hat``.

    Args:
        process (NoiseProcess): noising process that defines the target.
        prediction (Tensor): native prediction at ``z_hat_t``, shape (B, C, h, w).
        z_hat (Tensor): clean latents, same shape; no gradient flows into them.
        noise (Tensor): the noise that was added, same shape.
        t (float | Tensor): time, scalar or shape (B,).
        weight (Tensor | float): weight of each sample, broadcast over (B, C, h, w).
    """
    target = process.to_native(z_hat.detach().float(), noise.float(), t)
    return (weight * (prediction.float() - target).square()).mean()


def reconstruction_loss(
    x_hat: Tensor,
    x_hq: Tensor,
    z_hat: Tensor,
    z_hq: Tensor,
    perceptual: Callable[[Tensor, Tensor], Tensor] | None,
    perceptual_weight: float = 1.0,
    latent_mse_weight: float = 1.0,
    l1_weight: float = 0.0,
) -> ReconstructionTerms:
    """Reconstruction loss, eq. 7, with an optional L1 term.

    ``w_p LPIPS(x_hat, x_hq) + w_z MSE(z_hat, z_hq) + w_1 |x_hat - x_hq|``

    Args:
        x_hat (Tensor): restored images (B, 3, H, W), nominally in [0, 1].
        x_hq (Tensor): true images, same shape, in [0, 1].
        z_hat (Tensor): latents of the restored images.
        z_hq (Tensor): latents of the true images.
        perceptual (callable | None): maps two batches in [0, 1] to a scalar distance; None omits the term.
        perceptual_weight (float): ``w_p``; 1 in the paper.
        latent_mse_weight (float): ``w_z``; 1 in the first phase of the paper, 0 in its second.
        l1_weight (float): ``w_1``; 0 in the paper.
    """
    zero = x_hat.new_zeros(())
    distance = perceptual(x_hat, x_hq) if perceptual is not None and perceptual_weight else zero
    mse = F.mse_loss(z_hat.float(), z_hq.float())
    l1 = F.l1_loss(x_hat, x_hq)
    # Terms with weight 0 are reported but not summed, because 0 * inf is NaN.
    parts = ((perceptual_weight, distance), (latent_mse_weight, mse), (l1_weight, l1))
    total = sum((weight * value for weight, value in parts if weight), zero)
    return ReconstructionTerms(total, l1.detach(), distance.detach(), mse.detach())
