"""A result is reused only if it was made from the same input with the same settings."""

from __future__ import annotations

from pathlib import Path

import pytest

from tsdsr.result_records import RECORDS_FILE, ResultRecords

CAT = {"input": "c0ffee", "scale": 4.0, "target": (192, 96)}


@pytest.fixture
def result(tmp_path: Path) -> Path:
    path = tmp_path / "café \udcff.png"
    path.write_bytes(b"pixels")
    ResultRecords().add(path, CAT)
    return path


def test_states(result: Path) -> None:
    records = ResultRecords()
    assert records.state(result.with_name("b.png"), CAT) == "missing"
    assert records.state(result, CAT) == "same"
    assert records.state(result, CAT | {"scale": 2.0, "seed": 1}) == "different"
    assert records.differences(result, CAT | {"scale": 2.0, "seed": 1}) == ["scale", "seed"]
    assert records.is_result(result)
    result.write_bytes(b"another picture")
    assert records.state(result, CAT) == "unknown"
    assert not records.is_result(result)


def test_a_file_or_folder_without_a_record_is_unknown(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"x")
    (tmp_path / "b.png").mkdir()
    assert ResultRecords().state(tmp_path / "a.png", CAT) == "unknown"
    assert ResultRecords().state(tmp_path / "b.png", CAT) == "unknown"


def test_the_last_record_counts_and_records_move_with_their_folder(result: Path) -> None:
    result.write_bytes(b"larger")
    ResultRecords().add(result, CAT | {"scale": 2.0})
    moved = result.parent.rename(result.parent.with_name("moved")) / result.name
    assert ResultRecords().state(moved, CAT | {"scale": 2.0}) == "same"


def test_damaged_lines_lose_only_their_own_record(result: Path) -> None:
    other = result.with_name("b.png")
    other.write_bytes(b"x")
    file = result.parent / RECORDS_FILE
    file.write_bytes(file.read_bytes() + b'[1]\n{"name": 3}\n\xff\n{"name": "b.png", "si')
    ResultRecords().add(other, CAT)
    records = ResultRecords()
    assert records.state(other, CAT) == "same"
    assert records.state(result, CAT) == "same"
