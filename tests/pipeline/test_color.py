from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from tests.kinds import on_both, tensor
from tsdsr.arrays import Array, ArrayDevice
from tsdsr.errors import InvalidInputError
from tsdsr.pipeline.color import adain_color_fix, wavelet_color_fix


def literal_wavelet(x: Tensor, source: Tensor) -> Tensor:
    """Written out: sum of the five detail bands of ``x`` plus the residual of ``source``, 3×3 kernels."""
    binomial = torch.tensor([1.0, 2.0, 1.0]) / 4
    kernel = torch.outer(binomial, binomial).expand(3, 1, 3, 3)

    def blur(image: Tensor, d: int) -> Tensor:
        return F.conv2d(F.pad(image, (d,) * 4, mode="replicate"), kernel, dilation=d, groups=3)

    detail = torch.zeros_like(x)
    for level in range(5):
        low = blur(x, 2**level)
        detail += x - low
        x, source = low, blur(source, 2**level)
    return detail + source


@on_both
@pytest.mark.parametrize("size", [(40, 52), (16, 17), (1, 9), (5, 1), (1, 1)])  # the largest blur reaches 16 pixels
def test_wavelet_equals_the_written_out_decomposition(device: ArrayDevice, size: tuple[int, int]) -> None:
    x, source = torch.rand(2, 2, 3, *size).unbind(0)
    fixed = wavelet_color_fix(device.upload(x), device.upload(source))
    torch.testing.assert_close(tensor(fixed), literal_wavelet(x, source), rtol=0, atol=1e-5)


def test_wavelet_removes_a_colour_cast_and_keeps_detail() -> None:
    source = torch.rand(1, 3, 1, 1).expand(1, 3, 64, 64)
    detail = torch.zeros(1, 3, 64, 64)
    detail[..., ::2] = 0.1
    detail[..., 1::2] = -0.1
    cast = torch.tensor([0.1, -0.05, 0.02]).reshape(1, 3, 1, 1)
    torch.testing.assert_close(wavelet_color_fix(source + detail + cast, source), source + detail, rtol=0, atol=0.03)
    inner = wavelet_color_fix(source + detail + cast, source)[..., 8:-8, 8:-8]
    torch.testing.assert_close(inner.mean((2, 3)), source.mean((2, 3)), rtol=0, atol=5e-3)


@on_both
def test_adain_matches_mean_and_deviation(device: ArrayDevice) -> None:
    x, source = torch.rand(2, 3, 32, 32) * 0.3, torch.rand(2, 3, 8, 8)
    fixed = tensor(adain_color_fix(device.upload(x), device.upload(source)))
    torch.testing.assert_close(fixed.mean((2, 3)), source.mean((2, 3)), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(fixed.std((2, 3)), source.std((2, 3)), rtol=1e-2, atol=1e-3)


@on_both
@pytest.mark.parametrize("fix", [wavelet_color_fix, adain_color_fix])
def test_an_image_aligned_with_itself_is_unchanged(device: ArrayDevice, fix: Callable[[Array, Array], Array]) -> None:
    x = torch.rand(1, 3, 33, 20)
    given = device.upload(x.clone())
    torch.testing.assert_close(tensor(fix(given, given)), x, rtol=0, atol=1e-5)
    assert np.array_equal(given, x)  # the images themselves are not changed


def test_errors() -> None:
    x = torch.rand(1, 3, 8, 8)
    with pytest.raises(InvalidInputError, match="shapes differ"):
        wavelet_color_fix(x, torch.rand(1, 3, 4, 4))
