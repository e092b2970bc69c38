"""Blur kernels against their moments, closed forms, and the formulas of the published recipe."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy import special
from torch import Tensor

from tsdsr.data.kernels import delta_kernels, sinc_kernels, smooth_kernels
from tsdsr.errors import InvalidInputError


def one(
    family: str = "gaussian", sigma: tuple[float, float] = (2, 1), angle: float = 0, beta: float = 1, size: int = 21
) -> Tensor:
    return smooth_kernels(
        [family], torch.tensor([sigma]), torch.tensor([angle]), torch.tensor([beta]), torch.tensor([size])
    )[0]


def moments(kernel: Tensor) -> tuple[float, float, float]:
    axis = torch.arange(len(kernel)) - len(kernel) // 2
    y, x = torch.meshgrid(axis, axis, indexing="ij")
    return float((kernel * x * x).sum()), float((kernel * y * y).sum()), float((kernel * x * y).sum())


@pytest.mark.parametrize("family", ["gaussian", "generalized", "plateau"])
@pytest.mark.parametrize(("sigma", "angle"), [((2.0, 2.0), 0.0), ((2.5, 0.7), 0.6), ((1.0, 3.0), -2.0)])
@pytest.mark.parametrize("beta", [0.5, 1.0, 1.7])
def test_values_follow_the_formula(family: str, sigma: tuple[float, float], angle: float, beta: float) -> None:
    """Against the textbook covariance form, position by position."""
    rotation = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    precision = np.linalg.inv(rotation @ np.diag(np.square(sigma)) @ rotation.T)
    expected = np.zeros((21, 21))
    for row in range(21):
        for column in range(21):
            offset = np.array([column - 10, row - 10])
            q = offset @ precision @ offset
            expected[row, column] = {
                "gaussian": math.exp(-0.5 * q),
                "generalized": math.exp(-0.5 * q**beta),
                "plateau": 1 / (1 + q**beta),
            }[family]
    kernel = one(family, sigma, angle, beta).double().numpy()
    np.testing.assert_allclose(kernel, expected / expected.sum(), rtol=1e-4, atol=1e-8)


def test_gaussians_have_the_asked_moments() -> None:
    xx, yy, xy = moments(one(sigma=(2.0, 1.0)))
    assert (xx, yy) == (pytest.approx(4, rel=0.01), pytest.approx(1, rel=0.01))
    assert xy == pytest.approx(0, abs=1e-6)
    xx, yy, xy = moments(one(sigma=(2.0, 1.0), angle=math.pi / 4))
    assert xx == pytest.approx(yy, rel=1e-4)
    assert xy == pytest.approx(1.5, rel=0.01)


def test_beta_one_is_the_gaussian_and_more_is_flatter() -> None:
    torch.testing.assert_close(one("generalized"), one("gaussian"))
    tops = [one("generalized", beta=b)[10] for b in (0.5, 1.0, 4.0)]
    decline = [(top[11] / top[10]).item() for top in tops]
    assert decline[0] < decline[1] < decline[2]


def test_small_kernels_are_surrounded_by_zeros() -> None:
    kernel = one(size=7)
    assert kernel[:7].sum() == kernel[:, 14:].sum() == 0
    torch.testing.assert_close(kernel[7:14, 7:14].sum(), torch.tensor(1.0))
    assert (kernel[7:14, 7:14] > 0).all()


@pytest.mark.parametrize(("cutoff", "size"), [(math.pi / 3, 7), (2.0, 13), (math.pi, 21)])
def test_sinc_is_the_circular_low_pass(cutoff: float, size: int) -> None:
    half = size // 2
    axis = np.arange(-half, half + 1)
    r = np.hypot(*np.meshgrid(axis, axis))
    with np.errstate(invalid="ignore", divide="ignore"):
        expected = cutoff * special.j1(cutoff * r) / (2 * np.pi * r)
    expected[half, half] = cutoff**2 / (4 * np.pi)
    kernel = sinc_kernels(torch.tensor([cutoff]), torch.tensor([size]))[0, 10 - half : 11 + half, 10 - half : 11 + half]
    np.testing.assert_allclose(kernel.numpy(), expected / expected.sum(), rtol=1e-4, atol=1e-6)
    assert kernel.min() < 0


def test_a_batch_equals_singles() -> None:
    families = ["gaussian", "plateau", "generalized"]
    sigma, angle = torch.tensor([[1.0, 2.0], [0.5, 0.5], [3.0, 0.3]]), torch.tensor([0.1, 0.0, 2.0])
    beta, sizes = torch.tensor([1.0, 1.5, 0.6]), torch.tensor([7, 21, 13])
    batch = smooth_kernels(families, sigma, angle, beta, sizes)
    for i, family in enumerate(families):
        torch.testing.assert_close(
            batch[i], one(family, tuple(sigma[i].tolist()), float(angle[i]), float(beta[i]), int(sizes[i]))
        )
    assert batch.dtype == torch.float32
    torch.testing.assert_close(batch.sum((1, 2)), torch.ones(3))


def test_the_delta_kernel_is_one_point() -> None:
    assert delta_kernels(2).sum((1, 2)).tolist() == [1, 1]
    assert delta_kernels(1)[0, 10, 10] == 1


def test_impossible_kernels_are_refused() -> None:
    for size in (8, 23, -1):
        with pytest.raises(InvalidInputError, match="odd and at most 21"):
            one(size=size)
    with pytest.raises(InvalidInputError, match="box"):
        one("box")
    for cutoff in (0.0, 4.0):
        with pytest.raises(InvalidInputError, match="cutoffs"):
            sinc_kernels(torch.tensor([cutoff]), torch.tensor([7]))
