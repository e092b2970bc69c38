"""Tables: marks for best and second best, in every format."""

from __future__ import annotations

import csv
import dataclasses
import io
import math

import pytest
from rich.cells import cell_len
from rich.console import Console

from tsdsr.evaluation.metrics import METRICS
from tsdsr.evaluation.published import comparison
from tsdsr.evaluation.results import Cost, Evaluation, Scores, SystemResult
from tsdsr.evaluation.tables import Row, rank, table_rows, to_csv, to_latex, to_markdown, to_rich


@pytest.fixture
def found() -> Evaluation:
    """Two systems; one was run here; MUSIQ could not be computed."""

    def scores(psnr: float, lpips: float) -> dict[str, Scores]:
        return {
            "psnr": Scores(psnr, (psnr, psnr), (psnr - 1, psnr + 1)),
            "lpips": Scores(lpips, (lpips, lpips)),
            "musiq": Scores(unavailable="no network"),
        }

    cost = Cost(0.25, 0.2, 5, "cpu", "float32", (128, 128), 5_170_000, 700 * 2**20)
    systems = (
        SystemResult("mini_a", ("a.png", "b.png"), scores(27.0468, 0.2672), cost),
        SystemResult("x|y&z", ("a.png", "b.png"), scores(25.1511, 0.2921)),
    )
    variants = {"psnr": "pyiqa psnr: Y", "lpips": "pyiqa lpips: alex", "musiq": "pyiqa musiq: koniq"}
    return Evaluation(("a", "b"), ("a", "b"), (), systems, variants, {"pyiqa": "0.1.16", "crop_border": 4})


def test_rank_follows_the_metrics_direction() -> None:
    rows = [Row("a", True, {"psnr": 30.0, "lpips": 0.3}), Row("b", True, {"psnr": 31.0, "lpips": 0.2})]
    assert rank(rows, ["psnr", "lpips"]) == {"psnr": (31.0, 30.0), "lpips": (0.2, 0.3)}


def test_values_that_print_alike_share_a_rank() -> None:
    rows = [Row(n, True, {"psnr": v}) for n, v in (("a", 30.001), ("b", 30.004), ("c", 29.0))]
    assert rank(rows, ["psnr"]) == {"psnr": (30.0, 29.0)}


def test_absent_values_do_not_compete() -> None:
    rows = [Row("a", True, {"psnr": None}), Row("b", True, {"psnr": math.nan}), Row("c", True, {"psnr": math.inf})]
    assert rank(rows, ["psnr", "lpips"]) == {"psnr": (math.inf, None), "lpips": (None, None)}


def test_published_rows_compete(found: Evaluation) -> None:
    rows = table_rows(found, comparison("realsr"))
    assert [row.label for row in rows[:2]] == ["mini_a", "x|y&z"]
    assert rank(rows, ["psnr", "lpips"]) == {"psnr": (27.05, 26.65), "lpips": (0.2656, 0.2672)}


def test_markdown(found: Evaluation) -> None:
    lines = to_markdown(found).splitlines()
    assert lines[0] == "|  | PSNR ↑ | LPIPS ↓ | MUSIQ ↑ | s/image | network | memory | parameters | on |"
    assert lines[2] == "| mini_a | **27.05** | **0.2672** | n/a | 0.25 | 0.2 | 700 MiB | 5.17 M | cpu, float32 |"
    assert lines[3] == "| x\\|y&z | <u>25.15</u> | <u>0.2921</u> | n/a |  |  |  |  |  |"
    assert "MUSIQ unavailable: no network" in lines
    assert any("pyiqa psnr: Y" in line and "4 pixels cropped" in line and "pyiqa 0.1.16" in line for line in lines)


def hundred(found: Evaluation) -> Evaluation:
    """The same over as many images as RealSR has."""
    return dataclasses.replace(found, images=tuple(map(str, range(100))))


def test_latex_escapes_and_separates_the_groups(found: Evaluation) -> None:
    text = to_latex(hundred(found), comparison("realsr"))
    assert r"mini\_a & \textbf{27.05} & \underline{0.2672}" in text
    assert r"x|y\&z" in text
    assert text.count(r"\midrule") == 2
    columns = text.splitlines()[0].split("{")[-1].rstrip("}")
    assert all(line.count(" & ") == len(columns) - 1 for line in text.splitlines() if "&" in line)


def test_csv_keeps_all_digits(found: Evaluation) -> None:
    rows = list(csv.DictReader(io.StringIO(to_csv(found, comparison("drealsr")))))
    assert rows[0]["psnr"] == "27.0468"
    assert (float(rows[0]["psnr_low"]), rows[0]["lpips_low"], rows[0]["musiq"]) == (pytest.approx(26.0468), "", "")
    assert {row["source"] for row in rows} == {"measured", "published"}


def printed(found: Evaluation, width: int, encoding: str = "utf-8", published: str = "realsr") -> str:
    file = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    Console(width=width, file=file).print(to_rich(found, comparison(published)))
    file.flush()
    return file.buffer.getvalue().decode(encoding)  # type: ignore[attr-defined]


def test_terminal(found: Evaluation) -> None:
    console = Console(width=200, record=True, file=io.StringIO(), force_terminal=True)
    console.print(to_rich(hundred(found), comparison("realsr")))
    styled = console.export_text(styles=True, clear=False)
    plain = console.export_text()
    assert "\x1b[1m27.05\x1b[0m" in styled
    assert "\x1b[4m0.2672\x1b[0m" in styled
    assert "[26.05, 28.05]" in plain
    assert "700 MiB" in plain
    assert "inputs of 128x128" in plain
    assert "OSEDiff-1s (published)" in plain
    assert "MUSIQ unavailable: no network" in plain
    assert "quoted from the paper" in plain


def test_few_images_are_not_ranked_among_means_over_many(found: Evaluation) -> None:
    text = to_markdown(found, comparison("realsr"))
    assert "| mini_a | **27.05** | **0.2672** |" in text
    assert "| x\\|y&z | <u>25.15</u> | <u>0.2921</u> |" in text
    assert "They are means over 100 images, the rows above over 2" in text
    assert text.count("**") == 2 * (2 + 3)  # three published metrics of their own
    text = to_markdown(hundred(found), comparison("realsr"))
    assert text.count("**") == 2 * 3
    assert "the rows above" not in text


def test_means_over_fewer_images_say_so(found: Evaluation) -> None:
    short = dict(found.systems[0].scores) | {"lpips": Scores(0.2, (0.2, math.nan))}
    systems = (dataclasses.replace(found.systems[0], scores=short),)
    text = to_markdown(dataclasses.replace(found, systems=systems))
    assert "Not all of the 2 images could be scored: LPIPS over 1." in text
    assert "Not all" not in to_markdown(found)


@pytest.mark.parametrize("encoding", ["utf-8", "cp1252", "ascii"])
@pytest.mark.parametrize("width", [20, 40, 80, 100, 300])
def test_every_figure_is_readable_at_every_width(found: Evaluation, width: int, encoding: str) -> None:
    """All nine metrics with intervals, as a pipe of 80 columns shows them."""
    rows = {name: Scores(12.3456, (12.3, 12.4), (11.2345, 13.4567)) for name in METRICS}
    systems = tuple(
        SystemResult(name, ("a", "b"), rows, found.systems[0].cost) for name in ("mini", "a system with a long name 😀")
    )
    wide = dataclasses.replace(found, systems=systems, variants=dict.fromkeys(METRICS, "how"))
    text = printed(wide, width, encoding)
    lines = text.splitlines()
    assert max(map(cell_len, lines)) <= width
    assert "…" not in text
    if width >= 40:
        for heading in (*(spec.label for spec in METRICS.values()), "s/image", "network", "memory", "parameters"):
            assert heading in text
        assert text.count("[11.2345, 13.4567]") == 2 * sum(spec.digits == 4 for spec in METRICS.values())
        assert text.count("5.17 M") == 2
        assert all(row.method in text.replace("\n", "") for row in comparison("realsr") if width >= 80)
    assert ("↑" in text) == (encoding == "utf-8")


def test_names_that_are_not_text_are_escaped(found: Evaluation) -> None:
    named = dataclasses.replace(found.systems[0], name="caf\udce9\x1b[1m\nx")
    odd = dataclasses.replace(found, systems=(named,))
    for text in (to_markdown(odd), to_latex(odd), to_csv(odd), printed(odd, 200)):
        text.encode("utf-8")
        assert "\x1b" not in text
        assert r"caf\udce9" in text.replace(r"\_", "_")
