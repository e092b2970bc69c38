"""Round trip of stored results."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from tsdsr.errors import DatasetError
from tsdsr.evaluation.results import Cost, Evaluation, Scores, SystemResult


def test_round_trip(tmp_path: Path) -> None:
    cost = Cost(0.25, None, 5, "cpu", "float32", (128, 96), 10, None)
    scores = {
        "psnr": Scores(math.inf, (math.inf, 30.5), None),
        "niqe": Scores(5.5, (5.0, 6.0), (5.0, 6.0)),
        "fid": Scores(unavailable="no network"),
    }
    found = Evaluation(
        ("a", "b"), ("a.png", "b.png"), (), (SystemResult("s", ("x", "y"), scores, cost),), dict.fromkeys(scores, "")
    )
    found.save(tmp_path / "r.json")
    assert Evaluation.load(tmp_path / "r.json") == found
    json.loads((tmp_path / "r.json").read_text(), parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"format": 2}', '{"format": 1, "images": []}'])
def test_other_files_are_refused_by_name(tmp_path: Path, text: str) -> None:
    (tmp_path / "r.json").write_text(text)
    with pytest.raises(DatasetError, match=r"r.json"):
        Evaluation.load(tmp_path / "r.json")


def test_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"nowhere.json"):
        Evaluation.load(tmp_path / "nowhere.json")
