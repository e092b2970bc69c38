from __future__ import annotations

import pytest

from tsdsr.wording import counted, first_line, readable_size


@pytest.mark.parametrize(
    ("count", "expected"), [(0, "0 shards"), (1, "1 shard"), (2, "2 shards"), (1000, "1000 shards")]
)
def test_nouns_agree_with_their_number(count: int, expected: str) -> None:
    assert counted(count, "shard") == expected


def test_thousands_may_be_separated() -> None:
    assert counted(1_234_567, "step", thousands=",") == "1,234,567 steps"


def test_irregular_plurals_are_given() -> None:
    assert [counted(n, "photograph is", "photographs are") for n in (1, 3)] == ["1 photograph is", "3 photographs are"]


def test_an_error_is_one_line() -> None:
    assert first_line(ValueError("\nno such key\nin the file")) == "no such key"
    assert first_line(ValueError()) == "ValueError()"


@pytest.mark.parametrize(("size", "expected"), [(2_030_000_000, "2.03 GB"), (999_900_000, "999.9 MB"), (12, "0.0 MB")])
def test_sizes_are_in_units_of_1000(size: int, expected: str) -> None:
    assert readable_size(size) == expected
