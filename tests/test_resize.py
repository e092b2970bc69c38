from __future__ import annotations

import pytest
import torch

from tsdsr.resize import BicubicWeights, upsample_bicubic


@pytest.mark.parametrize(
    ("small", "large"),
    [((40, 30), (160, 120)), ((40, 30), (132, 97)), ((17, 900), (23, 3001)), ((1, 2), (8, 5)), ((12, 9), (12, 9))],
)
def test_any_window_equals_that_of_the_whole_image(small: tuple[int, int], large: tuple[int, int]) -> None:
    x = torch.rand(2, 3, *small)
    whole = upsample_bicubic(x, large)
    height, width = large
    for top, bottom, left, right in (
        (0, height, 0, width),
        (0, 1, 0, 1),
        (height - 1, height, width - 1, width),
        (height // 3, height // 2 + 1, width // 2, width),
    ):
        rows = BicubicWeights.at(torch.arange(top, bottom), small[0], height)
        cols = BicubicWeights.at(torch.arange(left, right), small[1], width)
        crop = x[..., rows.first : rows.stop, cols.first : cols.stop]
        window = rows.apply(cols.apply(crop, -1), -2).clamp(0, 1)
        torch.testing.assert_close(window, whole[..., top:bottom, left:right], rtol=0, atol=2e-6)


def test_only_the_needed_source_range_is_read() -> None:
    taps = BicubicWeights.at(torch.arange(400, 440), 1000, 4000)
    assert (taps.first, taps.stop) == (98, 112)
