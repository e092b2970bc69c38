"""Published results against the paper's text, where that is available."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import pytest

from tsdsr.errors import InvalidInputError
from tsdsr.evaluation.metrics import METRICS
from tsdsr.evaluation.published import DATASETS, comparison, published

PAPER = Path(__file__).resolve().parents[2].parent / "shared" / "paper" / "tsd-sr.txt"
_NUMBER = re.compile(r"\d+(?:\.\d+)?")


@pytest.fixture(scope="module")
def lines() -> list[list[str]]:
    """Cells of every table line of the paper."""
    if not PAPER.is_file():
        pytest.skip("the paper's text is not beside this checkout")
    rows = (line.split("|") for line in PAPER.read_text().splitlines() if line.count(" | ") >= 4)
    return [[cell.strip() for cell in row if cell.strip()] for row in rows]


@pytest.mark.parametrize("table", [1, 2, 4, 5, 6, 7])
def test_rows_stand_in_the_paper(table: int, lines: list[list[str]]) -> None:
    """Numbers and name on one line, in the order of the columns; the test set stands on one line of its group."""
    for row in published(table):
        numbers = [*(row.setting.values() if table == 6 else ()), *row.values.values()]
        matching = [
            cells for cells in lines if [float(c) for c in cells if _NUMBER.fullmatch(c)] == [float(n) for n in numbers]
        ]
        assert matching, row
        label = row.method.replace("TSD-SR", "Ours")
        if table != 6:
            assert any(label in cell for cells in matching for cell in cells), row
        if table == 5:
            assert any(row.setting["base"] in cells for cells in matching), row


def test_no_row_of_the_paper_is_left_out(lines: list[list[str]]) -> None:
    def numbers(cells: list[str]) -> tuple[float, ...]:
        return tuple(float(c) for c in cells if _NUMBER.fullmatch(c))

    theirs = Counter(numbers(cells) for cells in lines if len(numbers(cells)) >= 5 and "Inference" not in cells[0])
    ours = Counter(
        tuple(float(n) for n in (*(row.setting.values() if table == 6 else ()), *row.values.values()))
        for table in (1, 2, 4, 5, 6, 7)
        for row in published(table)
    )
    assert ours == theirs


def test_complexity_stands_in_the_paper(lines: list[list[str]]) -> None:
    rows = published(3)
    for label, name in (("Inference Step", "steps"), ("Inference Time", "seconds")):
        cells = next(cells for cells in lines if cells[0] == label)
        assert [row.values[name] for row in rows] == [float(c) for c in cells[1:]]
    header = next(cells for cells in lines if cells[0] == "StableSR" and not _NUMBER.fullmatch(cells[1]))
    assert [row.method.split("-")[0] for row in rows] == ["TSD" if c == "Ours" else c for c in header]


def test_known_figures() -> None:
    osediff = next(row for row in comparison("realsr") if row.method == "OSEDiff-1s")
    assert (osediff.table, osediff.values["psnr"], osediff.values["clipiqa"]) == (1, 25.15, 0.6687)
    fastest = min(published(3), key=lambda row: row.values["seconds"])
    assert (fastest.method, fastest.values["seconds"]) == ("TSD-SR", 0.1362)
    chosen = next(row for row in published(6) if row.setting == {"N": "4", "s": "50"})
    assert chosen.values["fid"] == 134.98


@pytest.mark.parametrize("dataset", DATASETS)
def test_the_papers_own_row_is_the_same_everywhere(dataset: str) -> None:
    rows = [row.values for table in (1, 2, 7) for row in published(table) if row.dataset == dataset]
    names = [row.method for table in (1, 2, 7) for row in published(table) if row.dataset == dataset]
    own = [values for name, values in zip(names, rows, strict=True) if name == "TSD-SR"]
    assert len(own) == 3
    assert own[0] == own[1] == own[2]
    methods = [row.method for row in comparison(dataset.lower())]
    assert len(methods) == len(set(methods)) == 15


@pytest.mark.parametrize("dataset", ["DRealSR", "RealSR"])
def test_the_ablations_full_model_is_the_papers(dataset: str) -> None:
    full = next(row for row in published(4) if row.dataset == dataset and row.method == "Full")
    whole = next(row for row in published(1) if row.dataset == dataset and row.method == "TSD-SR")
    assert full.values.items() <= whole.values.items()


def test_every_row_has_its_metrics() -> None:
    counts = {1: 12, 2: 24, 3: 11, 4: 6, 5: 4, 6: 5, 7: 15}
    for table, count in counts.items():
        rows = published(table)
        assert len(rows) == count
        if table != 3:
            assert all(row.values.keys() <= METRICS.keys() and row.dataset in DATASETS for row in rows)


def test_unknown_tables_and_sets_name_the_choices() -> None:
    with pytest.raises(InvalidInputError, match="1 to 7"):
        published(8)
    with pytest.raises(InvalidInputError, match="choose from drealsr, realsr, div2k-val"):
        comparison("set5")
