from __future__ import annotations

import pytest

from tsdsr.errors import InvalidInputError
from tsdsr.pipeline.options import FITS, Fit, output_size, visible_part


@pytest.mark.parametrize(
    ("scale", "target", "expected"),
    [
        (4, None, (400, 300)),
        (1, None, (100, 75)),
        (2.5, None, (250, 188)),
        (8, None, (800, 600)),
        (9, (150, 120), (120, 90)),
    ],
)
def test_output_size(scale: float, target: tuple[int, int] | None, expected: tuple[int, int]) -> None:
    assert output_size(100, 75, scale, target) == expected


@pytest.mark.parametrize("scale", [0.5, 8.1, 0, -1, float("nan"), float("inf")])
def test_scales_out_of_range_are_refused(scale: float) -> None:
    with pytest.raises(InvalidInputError, match="between 1 and 8"):
        output_size(100, 75, scale, None)


@pytest.mark.parametrize(
    ("fit", "expected", "rows", "columns"),
    [
        ("contain", (96, 72), (0, 64), (0, 48)),
        ("cover", (96, 192), (20, 44), (0, 48)),
        ("stretch", (96, 192), (0, 64), (0, 48)),
    ],
)
def test_a_target_of_another_aspect(
    fit: Fit, expected: tuple[int, int], rows: tuple[int, int], columns: tuple[int, int]
) -> None:
    assert output_size(64, 48, 4, (192, 96), fit) == expected
    assert visible_part(64, 48, (192, 96), fit) == (slice(*rows), slice(*columns))


def test_a_target_of_the_same_aspect_is_met_to_the_pixel_by_every_fit() -> None:
    for fit in FITS:
        assert output_size(64, 48, 4, (144, 192), fit) == (192, 144)
        assert visible_part(64, 48, (144, 192), fit) == (slice(0, 64), slice(0, 48))


def test_cover_crops_to_the_closest_pixel() -> None:
    assert visible_part(100, 77, (190, 97), "cover") == (slice(30, 69), slice(0, 77))
    assert visible_part(10, 1000, (100, 100), "cover") == (slice(0, 10), slice(495, 505))
    assert visible_part(100, 77, None, "cover") == (slice(0, 100), slice(0, 77))


@pytest.mark.parametrize(
    ("target", "fit"),
    [
        ((50, 200), "stretch"),
        ((75, 99), "stretch"),
        ((601, 100), "stretch"),
        ((0, 0), "contain"),
        ((50, 200), "contain"),
        ((601, 801), "contain"),
        ((60, 90), "cover"),
        ((601, 100), "cover"),
    ],
)
def test_targets_out_of_range_are_refused(target: tuple[int, int], fit: Fit) -> None:
    with pytest.raises(InvalidInputError, match="grow by 1 to 8"):
        output_size(100, 75, 4, target, fit)
