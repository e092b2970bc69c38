r"""Batched blur kernels of the Real-ESRGAN degradation (Wang et al. 2021).

With the squared Mahalanobis distance :math:`q = x^\top \Sigma^{-1} x` from the centre, the families are

================  ==========================================  =======
family            unnormalised value                          beta
================  ==========================================  =======
Gaussian          ``exp(-q / 2)``                             1
generalised       ``exp(-q^beta / 2)``                        0.5 – 4
plateau           ``1 / (1 + q^beta)``                        1 – 2
sinc              ``w J1(w r) / (2 pi r)``, low-pass at ``w``  –
================  ==========================================  =======

Kernels of different sizes share one array; smaller kernels are padded with zeros.
"""

from __future__ import annotations

import torch
from torch import Tensor

from tsdsr.data.degradation_presets import FAMILIES, Family
from tsdsr.errors import InvalidInputError


def smooth_kernels(
    families: list[Family],
    sigma: Tensor,
    angle: Tensor,
    beta: Tensor,
    sizes: Tensor,
    max_size: int = 21,
) -> Tensor:
    """Create isotropic or anisotropic Gaussian, generalised Gaussian and plateau kernels.

    Args:
        families (list of str): family of each of the N kernels.
        sigma (Tensor): standard deviations along the two principal axes in pixels, shape (N, 2), > 0.
        angle (Tensor): rotation of the first axis in radians, shape (N,).
        beta (Tensor): shape parameter, shape (N,); ignored for the Gaussian.
        sizes (Tensor): odd edge of each kernel, int, shape (N,), at most ``max_size``.
        max_size (int): odd edge of the result.

    Returns:
        Tensor: shape (N, max_size, max_size), float32, each summing to one.

    Raises:
        InvalidInputError: A size is even or too large, or a family is unknown.
    """
    _check_sizes(sizes, max_size)
    if unknown := set(families) - set(FAMILIES):
        raise InvalidInputError(f"unknown kernel families {sorted(unknown)}")
    y, x = _grid(max_size)
    cos, sin = angle.double().cos()[:, None, None], angle.double().sin()[:, None, None]
    sx, sy = sigma.double()[:, :, None, None].unbind(1)
    q = ((cos * x + sin * y) / sx) ** 2 + ((cos * y - sin * x) / sy) ** 2
    power = q ** beta.double()[:, None, None]
    values = torch.empty_like(q)
    for i, family in enumerate(families):
        if family == "gaussian":
            values[i] = torch.exp(-0.5 * q[i])
        elif family == "generalized":
            values[i] = torch.exp(-0.5 * power[i])
        else:
            values[i] = 1 / (1 + power[i])
    return _normalise(values, sizes, max_size)


def sinc_kernels(cutoff: Tensor, sizes: Tensor, max_size: int = 21) -> Tensor:
    """Create circular low-pass (sinc) filters, which cause the ringing of sharpened or compressed images.

    Args:
        cutoff (Tensor): angular cutoff frequency ``w`` in radians per pixel, shape (N,), in (0, pi].
        sizes (Tensor): odd edge of each kernel, int, shape (N,), at most ``max_size``.
        max_size (int): odd edge of the result.

    Returns:
        Tensor: shape (N, max_size, max_size), float32, each summing to one.

    Raises:
        InvalidInputError: A size is even or too large, or a cutoff is out of range.
    """
    _check_sizes(sizes, max_size)
    if not bool(((cutoff > 0) & (cutoff <= torch.pi + 1e-6)).all()):
        raise InvalidInputError("sinc cutoffs must lie in (0, pi]")
    y, x = _grid(max_size)
    w = cutoff.double()[:, None, None]
    r = torch.hypot(x, y)
    ring = w * torch.special.bessel_j1(w * r) / (2 * torch.pi * r.clamp(min=1e-9))
    return _normalise(torch.where(r > 0, ring, w**2 / (4 * torch.pi)), sizes, max_size)


def delta_kernels(count: int, max_size: int = 21) -> Tensor:
    """Create identity kernels, shape (count, max_size, max_size)."""
    kernels = torch.zeros(count, max_size, max_size)
    kernels[:, max_size // 2, max_size // 2] = 1
    return kernels


def _grid(size: int) -> tuple[Tensor, Tensor]:
    """Return row and column offsets from the centre, float64, shape (size, size) each."""
    axis = torch.arange(size, dtype=torch.float64) - size // 2
    y, x = torch.meshgrid(axis, axis, indexing="ij")
    return y, x


def _normalise(values: Tensor, sizes: Tensor, max_size: int) -> Tensor:
    y, x = _grid(max_size)
    inside = torch.maximum(x.abs(), y.abs()) <= (sizes // 2)[:, None, None]
    values = torch.where(inside, values, 0.0)
    return (values / values.sum((1, 2), keepdim=True)).float()


def _check_sizes(sizes: Tensor, max_size: int) -> None:
    if max_size % 2 == 0 or bool((sizes % 2 == 0).any()) or bool((sizes > max_size).any()) or bool((sizes < 1).any()):
        raise InvalidInputError(f"kernel sizes must be odd and at most {max_size}")
