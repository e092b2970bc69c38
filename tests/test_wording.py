from __future__ import annotations

import pytest

from tsdsr.wording import counted


@pytest.mark.parametrize(
    ("count", "expected"), [(0, "0 shards"), (1, "1 shard"), (2, "2 shards"), (1000, "1000 shards")]
)
def test_nouns_agree_with_their_number(count: int, expected: str) -> None:
    assert counted(count, "shard") == expected


def test_thousands_may_be_separated() -> None:
    assert counted(1_234_567, "step", thousands=",") == "1,234,567 steps"


def test_irregular_plurals_are_given() -> None:
    assert [counted(n, "photograph is", "photographs are") for n in (1, 3)] == ["1 photograph is", "3 photographs are"]
