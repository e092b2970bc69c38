from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from tests.kinds import on_both, tensor
from tsdsr.arrays import Array, ArrayDevice
from tsdsr.errors import InvalidInputError
from tsdsr.pipeline.blending import AxisTiles, BandBlender, grouped


@settings(max_examples=200, deadline=None)
@given(st.integers(1, 400), st.integers(8, 64), st.integers(0, 32), st.integers(1, 4))
def test_any_plan_covers_the_axis_with_weights_that_sum_to_one(
    length: int, tile: int, overlap: int, multiple: int
) -> None:
    length, tile = length * multiple, tile * multiple
    overlap = min(overlap, tile // 2 - multiple) if overlap else 0
    axis = AxisTiles.plan(length, tile, max(overlap, 0), multiple)
    assert axis.starts[0] == 0
    assert axis.starts[-1] + axis.tile == length
    assert all(s % multiple == 0 for s in axis.starts)
    assert all(b - a <= axis.tile - max(overlap, 0) for a, b in zip(axis.starts, axis.starts[1:], strict=False))
    total = np.zeros(length)
    for start, weight in zip(axis.starts, axis.weights(), strict=True):
        assert weight.min() >= 0
        total[start : start + axis.tile] += weight
    np.testing.assert_allclose(total, 1, rtol=0, atol=1e-5)


def test_weights_are_symmetric_and_vanish_at_inner_edges() -> None:
    axis = AxisTiles.plan(160, 64, 16)
    first, middle, last = axis.weights()
    np.testing.assert_allclose(middle, middle[::-1], rtol=1e-5)
    np.testing.assert_allclose(first, last[::-1], rtol=1e-5)
    overlap = axis.starts[0] + 64 - axis.starts[1]
    assert middle[: overlap // 4].max() == 0
    assert first[0] == 1


@settings(max_examples=200, deadline=None)
@given(st.integers(1, 400), st.integers(8, 64), st.integers(0, 4), st.integers(1, 4), st.integers(1, 64))
def test_tiles_shrink_to_cover_evenly(length: int, tile: int, overlap: int, multiple: int, least: int) -> None:
    length, tile, overlap, least = (v * multiple for v in (length, tile, overlap, least))
    full = AxisTiles.plan(length, tile, overlap, multiple)
    axis = AxisTiles.plan(length, tile, overlap, multiple, least)
    assert len(axis.starts) == len(full.starts)
    assert min(full.tile, least) <= axis.tile <= full.tile
    assert axis.tile % multiple == 0
    assert axis.starts[-1] + axis.tile == length
    assert all(a + axis.tile - b >= overlap for a, b in zip(axis.starts, axis.starts[1:], strict=False))


def test_shrunken_tiles_overlap_no_more_than_needed() -> None:
    axis = AxisTiles.plan(4096, 1024, 48, 16, least=256)
    assert (len(axis.starts), axis.tile) == (5, 864)


def tiled(model: Callable[[Tensor], Tensor], x: Tensor, device: ArrayDevice, batch: int = 1) -> Tensor:
    """A model's result blended on a device from tiles of 32 that overlap by 8."""
    rows, cols = (AxisTiles.plan(length, 32, 8) for length in x.shape[-2:])
    blender, bands = BandBlender(rows, cols), list[Array]()
    for i, top in enumerate(rows.starts):
        for group in grouped(range(len(cols.starts)), batch):
            windows = [x[..., top : top + rows.tile, cols.starts[j] : cols.starts[j] + cols.tile] for j in group]
            for j, tile in zip(group, model(torch.cat(windows)).chunk(len(group)), strict=True):
                blender.add(i, j, device.upload(tile))
        bands.append(blender.finish(i))
    return torch.cat([tensor(band) for band in bands], dim=-2)


@on_both
@pytest.mark.parametrize("batch", [1, 3, 100])
def test_the_identity_is_untouched(device: ArrayDevice, batch: int) -> None:
    x = torch.randn(2, 3, 75, 130)
    torch.testing.assert_close(tiled(lambda t: t, x, device, batch), x, rtol=0, atol=1e-6)


@on_both
@pytest.mark.parametrize("size", [(40, 40), (41, 90), (33, 200), (128, 64)])
def test_a_local_model_gives_the_untiled_result(device: ArrayDevice, size: tuple[int, int]) -> None:
    weight = torch.randn(4, 3, 5, 5)  # sees two positions to each side; a quarter of the overlap

    def model(x: Tensor) -> Tensor:
        return torch.tanh(F.conv2d(x, weight, padding=2))

    x = torch.randn(1, 3, *size)
    torch.testing.assert_close(tiled(model, x, device, 2), model(x), rtol=0, atol=1e-5)


@on_both
@pytest.mark.parametrize("edge", [64, 32])  # several tiles, and a single one
def test_half_precision_is_blended_in_float32(device: ArrayDevice, edge: int) -> None:
    x = torch.full((1, 1, edge, edge), 1000.0, dtype=torch.float16)
    result = tiled(lambda t: t, x, device)
    assert result.dtype == torch.float32
    torch.testing.assert_close(result, x.float(), rtol=1e-6, atol=0)  # float16 is off by 5e-4


@pytest.mark.parametrize(("tile", "overlap"), [(0, 0), (32, 32), (32, -1), (30, 4)])
def test_impossible_sizes_are_refused(tile: int, overlap: int) -> None:
    with pytest.raises(InvalidInputError):
        AxisTiles.plan(64, tile, overlap, 4)
