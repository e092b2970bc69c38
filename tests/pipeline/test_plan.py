from __future__ import annotations

import pytest

from tsdsr.errors import InvalidInputError
from tsdsr.models.zoo import MINI, get_spec
from tsdsr.pipeline.plan import output_size, plan_tiles


@pytest.mark.parametrize(
    ("scale", "target", "expected"),
    [
        (4, None, (400, 300)),
        (1, None, (100, 75)),
        (2.5, None, (250, 188)),
        (8, None, (800, 600)),
        (9, (150, 120), (120, 150)),
    ],
)
def test_output_size(scale: float, target: tuple[int, int] | None, expected: tuple[int, int]) -> None:
    assert output_size(100, 75, scale, target) == expected


@pytest.mark.parametrize("scale", [0.5, 8.1, 0, -1, float("nan"), float("inf")])
def test_scales_out_of_range_are_refused(scale: float) -> None:
    with pytest.raises(InvalidInputError, match="between 1 and 8"):
        output_size(100, 75, scale, None)


@pytest.mark.parametrize("target", [(50, 200), (75, 99), (601, 100), (0, 0)])
def test_targets_out_of_range_are_refused(target: tuple[int, int]) -> None:
    with pytest.raises(InvalidInputError, match="grow by 1 to 8"):
        output_size(100, 75, 4, target)


def test_auto_tiles_only_what_exceeds_the_native_area() -> None:
    sd3 = get_spec("sd3")
    assert plan_tiles(sd3, (512, 512), "auto").denoiser is None
    assert plan_tiles(sd3, (256, 1024), "auto").denoiser is None
    large = plan_tiles(sd3, (768, 768), "auto")
    assert (large.denoiser, large.autoencoder) == (512, None)
    assert plan_tiles(sd3, (2048, 2048), "auto").autoencoder == 1024
    assert plan_tiles(sd3, (4096, 4096), None).denoiser is None


def test_given_tiles_are_rounded_to_what_the_model_needs() -> None:
    plan = plan_tiles(get_spec("sd21-base"), (2048, 2048), 500, overlap=50)
    assert (plan.denoiser, plan.autoencoder, plan.overlap) == (448, 448, 64)


@pytest.mark.parametrize(("tile", "overlap", "batch"), [(16, None, 1), (256, 200, 1), (256, 0, 0), (2.5, 0, 1)])
def test_unusable_tiles_are_refused(tile: int, overlap: int | None, batch: int) -> None:
    with pytest.raises(InvalidInputError):
        plan_tiles(MINI, (2048, 2048), tile, overlap, batch)
