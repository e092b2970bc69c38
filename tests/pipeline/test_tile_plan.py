from __future__ import annotations

import pytest
import torch

from tsdsr.errors import InvalidInputError, OutOfMemoryError
from tsdsr.models.zoo import MINI, get_spec
from tsdsr.pipeline.tile_plan import TilePlan, largest_tile, next_smaller_plan, plan_tiles

GIB = 2**30


def test_auto_tiles_only_what_exceeds_the_native_area() -> None:
    sd3 = get_spec("sd3")
    assert plan_tiles(sd3, (512, 512), "auto").tile is None
    assert plan_tiles(sd3, (256, 1024), "auto").tile is None
    assert plan_tiles(sd3, (768, 768), "auto").tile == 512
    assert plan_tiles(sd3, (4096, 4096), None).tile is None


def test_auto_follows_memory() -> None:
    sd3 = get_spec("sd3")
    assert plan_tiles(sd3, (4096, 4096), "auto", largest=320).tile == 320
    assert plan_tiles(sd3, (512, 512), "auto", largest=320).tile == 320
    assert plan_tiles(sd3, (4096, 4096), "auto", largest=9999).tile == 512


def test_given_tiles_are_rounded_to_what_the_model_needs() -> None:
    plan = plan_tiles(get_spec("sd21-base"), (2048, 2048), 500, overlap=50)
    assert (plan.tile, plan.overlap) == (448, 64)


@pytest.mark.parametrize(("tile", "overlap", "batch"), [(16, None, 1), (256, 200, 1), (256, 0, 0), (2.5, 0, 1)])
def test_unusable_tiles_are_refused(tile: int, overlap: int | None, batch: int) -> None:
    with pytest.raises(InvalidInputError):
        plan_tiles(MINI, (2048, 2048), tile, overlap, batch)


def test_a_plan_halves_until_nothing_sensible_is_left() -> None:
    plan, size, edges = plan_tiles(MINI, (4096, 4096), "auto", batch=4), (4096, 4096), []
    single = plan.smaller(MINI, size)
    assert single is not None
    assert (single.tile, single.batch) == (1024, 1)
    following: TilePlan | None = single
    while following := following.smaller(MINI, size):
        edges.append((following.tile, following.overlap, following.least))
    assert edges == [(512, 128, 256), (256, 128, 256), (128, 64, 128), (64, 32, 64)]
    whole = plan_tiles(MINI, (600, 400), None).smaller(MINI, (600, 400))
    assert whole is not None
    assert (whole.tile, whole.overlap) == (288, 128)


def test_memory_running_out_gives_a_smaller_plan(caplog: pytest.LogCaptureFixture) -> None:
    error, plans = RuntimeError("DefaultCPUAllocator: can't allocate memory"), [TilePlan()]
    for _ in range(3):
        plans.append(next_smaller_plan(error, plans[-1], MINI, (1024, 512)))
    assert [plan.tile for plan in plans] == [None, 512, 256, 128]
    assert "the whole image at once; starting again with tiles of 512" in caplog.text


@pytest.mark.parametrize("error", [MemoryError(), torch.OutOfMemoryError("CUDA out of memory")])
def test_memory_that_never_suffices_is_an_error_with_advice(error: Exception) -> None:
    with pytest.raises(OutOfMemoryError, match="tiles of 64 pixels; free memory") as caught:
        next_smaller_plan(error, TilePlan(64, 32), MINI, (1024, 512))
    assert caught.value.__cause__ is error


def test_other_errors_are_not_taken_for_want_of_memory() -> None:
    with pytest.raises(RuntimeError, match="shapes differ"):
        next_smaller_plan(RuntimeError("shapes differ"), TilePlan(256, 32), MINI, (1024, 512))


def test_the_tile_follows_memory_precision_and_the_native_size() -> None:
    sd3, size = get_spec("sd3"), (4096, 8192)
    assert largest_tile(sd3, size, 100 * GIB, 4) == 512
    small = largest_tile(sd3, size, GIB, 4)
    assert 64 <= small < 512
    assert small % 16 == 0
    used = sd3.tile_bytes * small**2 + 16 * 4096 * small + sd3.fixed_tile_bytes
    assert used <= 0.4 * GIB
    assert largest_tile(sd3, size, GIB, 2) > small
    assert largest_tile(sd3, size, 0, 4) == 64
    assert largest_tile(MINI, size, 8 * GIB, 4) == 1024
