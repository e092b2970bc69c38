from __future__ import annotations

import pytest

from tsdsr.errors import InvalidInputError
from tsdsr.pipeline.options import output_size


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
