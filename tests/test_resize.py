from __future__ import annotations

import numpy as np
import pytest
import torch

from tests.kinds import on_both, tensor
from tsdsr.arrays import ArrayDevice
from tsdsr.resize import BicubicWeights, BicubicWindow, upsample_bicubic


@on_both
@pytest.mark.parametrize(
    ("small", "large"),
    [((40, 30), (160, 120)), ((40, 30), (132, 97)), ((17, 900), (23, 3001)), ((1, 2), (8, 5)), ((12, 9), (12, 9))],
)
def test_any_window_equals_that_of_the_whole_image(
    device: ArrayDevice, small: tuple[int, int], large: tuple[int, int]
) -> None:
    x = torch.rand(2, 3, *small)
    whole = upsample_bicubic(x, large)
    height, width = large
    for top, bottom, left, right in (
        (0, height, 0, width),
        (0, 1, 0, 1),
        (height - 1, height, width - 1, width),
        (height // 3, height // 2 + 1, width // 2, width),
    ):
        window = BicubicWindow(np.arange(top, bottom), np.arange(left, right), small, large)
        enlarged = window.enlarge(device.upload(x[window.crop]))
        torch.testing.assert_close(tensor(enlarged), whole[..., top:bottom, left:right], rtol=0, atol=2e-6)


def test_only_the_needed_source_range_is_read() -> None:
    taps = BicubicWeights.at(np.arange(400, 440), 1000, 4000)
    assert (taps.first, taps.stop) == (98, 112)


def test_autocast_does_not_round_windows() -> None:
    x = torch.rand(1, 3, 20, 20)
    window = BicubicWindow(np.arange(80), np.arange(80), (20, 20), (80, 80))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        enlarged = window.enlarge(x)
    torch.testing.assert_close(enlarged, upsample_bicubic(x, (80, 80)), rtol=0, atol=2e-6)
