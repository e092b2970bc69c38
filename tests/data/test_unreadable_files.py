from __future__ import annotations

import logging
from pathlib import Path

import pytest

from tests.logs import own_records
from tsdsr.data.datasets import CropDataset, CropSettings
from tsdsr.data.sources import Source
from tsdsr.data.unreadable_files import UnreadableFiles
from tsdsr.errors import DatasetError


def test_bad_files_are_reported_once_and_too_many_stop(caplog: pytest.LogCaptureFixture) -> None:
    health = UnreadableFiles(40, limit=0.05)
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            health.report(3, "3.png: broken")
        health.report(5, "5.png: broken")
    assert len(own_records(caplog)) == health.count == 2
    assert health.is_bad(3)
    assert not health.is_bad(4)
    health.report(6, "6.png: broken")
    with pytest.raises(DatasetError, match="4 of 40 images cannot be used"):
        health.report(7, "7.png: broken")


@pytest.mark.parametrize(("count", "accepted"), [(1, 0), (2, 1), (5, 2), (14, 3), (60, 3), (200, 10)])
def test_a_few_bad_files_stop_no_small_dataset(count: int, accepted: int) -> None:
    health = UnreadableFiles(count)
    for number in range(accepted):
        health.report(number, "broken")
    with pytest.raises(DatasetError, match="cannot be used"):
        health.report(accepted, "broken")


def test_drawing_ends_when_no_good_file_is_left(tmp_path: Path) -> None:
    """As for a data loading process, when another has found the last good file to be bad."""
    source = Source("photos", (tmp_path / "gone.png",))
    dataset = CropDataset([source], 1, CropSettings(size=32))
    for _ in range(3):
        with pytest.raises(DatasetError, match="1 of 1 image cannot be used"):
            dataset[0]
    with pytest.raises(DatasetError, match="1 of 1 image cannot be used"):
        dataset.health.load(0, source.images[0], 32)
