from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from tsdsr.errors import InvalidInputError
from tsdsr.pipeline.tiling import AxisTiles, tiled_apply


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
    total = torch.zeros(length)
    for start, weight in zip(axis.starts, axis.weights(), strict=True):
        assert weight.min() >= 0
        total[start : start + axis.tile] += weight
    torch.testing.assert_close(total, torch.ones(length), rtol=0, atol=1e-5)


def test_weights_are_symmetric_and_vanish_at_inner_edges() -> None:
    axis = AxisTiles.plan(160, 64, 16)
    first, middle, last = axis.weights()
    torch.testing.assert_close(middle, middle.flip(0))
    torch.testing.assert_close(first, last.flip(0))
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


@pytest.mark.parametrize("batch", [1, 3, 100])
def test_the_identity_is_untouched(batch: int) -> None:
    x = torch.randn(2, 3, 75, 130)
    torch.testing.assert_close(tiled_apply(lambda t: t, x, tile=32, overlap=8, batch=batch), x, rtol=0, atol=1e-6)


@pytest.mark.parametrize("size", [(40, 40), (41, 90), (33, 200), (128, 64)])
def test_a_local_model_gives_the_untiled_result(size: tuple[int, int]) -> None:
    weight = torch.randn(4, 3, 5, 5)  # sees two positions to each side; a quarter of the overlap

    def model(x: Tensor) -> Tensor:
        return torch.tanh(F.conv2d(x, weight, padding=2))

    x = torch.randn(1, 3, *size)
    torch.testing.assert_close(tiled_apply(model, x, tile=32, overlap=8, batch=2), model(x), rtol=0, atol=1e-5)


def test_sizes_may_change_by_a_ratio() -> None:
    x = torch.randn(1, 3, 64, 96)
    up = tiled_apply(lambda t: t.repeat_interleave(8, -1).repeat_interleave(8, -2), x, tile=32, overlap=8, scale=(8, 1))
    torch.testing.assert_close(up, x.repeat_interleave(8, -1).repeat_interleave(8, -2))
    down = tiled_apply(lambda t: F.avg_pool2d(t, 8), x, tile=32, overlap=8, scale=(1, 8))
    torch.testing.assert_close(down, F.avg_pool2d(x, 8), rtol=0, atol=1e-6)


def test_what_fits_is_not_tiled() -> None:
    calls: list[tuple[int, ...]] = []

    def model(x: Tensor) -> Tensor:
        calls.append(tuple(x.shape))
        return x

    x = torch.randn(2, 3, 31, 32)
    tiled_apply(model, x, tile=32, overlap=8)
    tiled_apply(model, torch.randn(1, 3, 99, 77), tile=None, overlap=0)
    assert calls == [(2, 3, 31, 32), (1, 3, 99, 77)]


def test_progress_reaches_the_total() -> None:
    seen: list[tuple[int, int]] = []
    tiled_apply(lambda t: t, torch.zeros(1, 1, 64, 64), tile=32, overlap=8, batch=4, on_tile=lambda *a: seen.append(a))
    assert seen == [(3, 9), (6, 9), (9, 9)]


def test_half_precision_is_blended_in_float32() -> None:
    x = torch.full((1, 1, 64, 64), 1000.0, dtype=torch.float16)
    result = tiled_apply(lambda t: t, x, tile=32, overlap=8)
    assert result.dtype == torch.float16
    assert torch.equal(result, x)


@pytest.mark.parametrize(("tile", "overlap"), [(0, 0), (32, 32), (32, -1), (30, 4)])
def test_impossible_sizes_are_refused(tile: int, overlap: int) -> None:
    with pytest.raises(InvalidInputError):
        tiled_apply(lambda t: t, torch.zeros(1, 1, 64, 64), tile=tile, overlap=overlap, multiple=4)
