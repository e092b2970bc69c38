"""Blind sheets: what stands where, windows, and refusals."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from tests.study.conftest import STEMS, TINTS
from tests.study.test_cli import runner
from tsdsr.cli import app
from tsdsr.errors import DatasetError, InvalidInputError
from tsdsr.study.sheet_key import SheetKey
from tsdsr.study.sheets import _GAP, _HEAD, write_sheets

SIDE = 32


def window(sheet: Image.Image, place: int, column: int) -> NDArray[np.uint8]:
    """A window of 32x32 by row of the sheet and column."""
    left, top = _GAP + column * (SIDE + _GAP), place * (_HEAD + SIDE + _GAP) + _HEAD
    return np.asarray(sheet.crop((left, top, left + SIDE, top + SIDE)))


@pytest.fixture
def arguments(folders: dict[str, Path], tmp_path: Path) -> list[str]:
    systems = [f"{name}={folders[name]}" for name in ("alpha", "beta")]
    given = ["--lr", str(folders["lr"]), "--gt", str(folders["gt"]), "--key", str(tmp_path / "key.json")]
    return ["study", "sheets", str(tmp_path / "sheets"), *systems, *given, "--window", "32", "--rows", "3"]


@pytest.mark.parametrize("seed", range(4))
def test_each_system_stands_in_each_column_equally_often(arguments: list[str], tmp_path: Path, seed: int) -> None:
    assert runner.invoke(app, [*arguments, "--seed", str(seed)]).exit_code == 0
    first = [row.order[0] for row in SheetKey.load(tmp_path / "key.json").rows]
    assert sorted(first) == ["alpha", "alpha", "beta", "beta"]


def test_a_single_image_has_either_order(arguments: list[str], tmp_path: Path) -> None:
    first = set()
    for seed in range(8):
        paths = {"sheets": f"sheets{seed}", "key.json": f"key{seed}.json"}
        typed = [str(tmp_path / paths[Path(a).name]) if Path(a).name in paths else a for a in arguments[2:]]
        assert runner.invoke(app, ["study", "sheets", *typed, "--count", "1", "--seed", str(seed)]).exit_code == 0
        first.add(SheetKey.load(tmp_path / f"key{seed}.json").rows[0].order[0])
    assert first == {"alpha", "beta"}


@pytest.mark.parametrize("seed", range(4))
def test_in_both_orders_each_image_has_two_rows_apart_that_differ_in_the_columns_alone(
    arguments: list[str], tmp_path: Path, seed: int
) -> None:
    result = runner.invoke(app, [*arguments, "--both-orders", "--seed", str(seed)])
    assert result.exit_code == 0, result.output
    assert "8 rows on 3 sheets" in result.output
    rows = SheetKey.load(tmp_path / "key.json").rows
    for stem in STEMS:
        one, two = (k for k, row in enumerate(rows) if row.image == stem)
        assert two - one >= len(STEMS) / 2
        assert rows[one].order == rows[two].order[::-1]
        assert rows[one].box == rows[two].box
        shown = []
        for k in (one, two):
            with Image.open(tmp_path / "sheets" / rows[k].sheet) as sheet:
                shown.append([window(sheet, k % 3, column) for column in range(4)])
        assert all(np.array_equal(shown[0][a], shown[1][b]) for a, b in enumerate((0, 2, 1, 3)))


def test_magnified_pixels_are_squares(arguments: list[str], tmp_path: Path) -> None:
    assert runner.invoke(app, [*arguments, "--seed", "3"]).exit_code == 0
    paths = {str(tmp_path / "sheets"): "larger", str(tmp_path / "key.json"): "larger.json"}
    larger = [str(tmp_path / paths[part]) if part in paths else part for part in arguments]
    assert runner.invoke(app, [*larger, "--seed", "3", "--magnify", "3"]).exit_code == 0
    assert SheetKey.load(tmp_path / "larger.json") == SheetKey.load(tmp_path / "key.json")
    with Image.open(tmp_path / "sheets/sheet-01.png") as sheet:
        plain = window(sheet, 0, 1)
    with Image.open(tmp_path / "larger/sheet-01.png") as sheet:
        assert sheet.size == (4 * 96 + 5 * _GAP, 3 * (_HEAD + 96 + _GAP))
        left = _GAP + 96 + _GAP
        found = np.asarray(sheet.crop((left, _HEAD, left + 96, _HEAD + 96)))
    assert np.array_equal(found, np.kron(plain, np.ones((3, 3, 1), np.uint8)))


@pytest.mark.parametrize("kind", ["png", "webp"])
def test_the_key_says_what_the_sheets_show(
    arguments: list[str], folders: dict[str, Path], tmp_path: Path, kind: str
) -> None:
    result = runner.invoke(app, [*arguments, "--seed", "3", "--format", kind])
    assert result.exit_code == 0, result.output
    assert "4 rows on 2 sheets" in result.output
    assert sorted(p.name for p in (tmp_path / "sheets").iterdir()) == [f"sheet-01.{kind}", f"sheet-02.{kind}"]
    key = SheetKey.load(tmp_path / "key.json")
    assert sorted(row.image for row in key.rows) == sorted(STEMS)
    assert {row.order for row in key.rows} == {("alpha", "beta"), ("beta", "alpha")}
    for number, row in enumerate(key.rows):
        with Image.open(tmp_path / "sheets" / row.sheet) as sheet:
            assert not sheet.getexif()
            found = [window(sheet, number % 3, column) for column in range(4)]
        x, y, w, h = row.box
        assert (w, h) == (SIDE, SIDE)
        for pixels, name in zip(found[1:], (*row.order, "gt"), strict=True):
            with Image.open(folders[name] / f"{row.image}.png") as whole:
                assert np.array_equal(pixels, np.asarray(whole)[y : y + h, x : x + w])
        with Image.open(folders["lr"] / f"{row.image}.png") as low:
            enlarged = low.resize((64, 48), Image.Resampling.BICUBIC)
        assert np.array_equal(found[0], np.asarray(enlarged)[y : y + h, x : x + w])


def test_the_window_lies_where_the_truth_has_detail(folders: dict[str, Path], tmp_path: Path) -> None:
    pixels = np.full((48, 400, 3), 90, np.uint8)
    pixels[:, 200:] = np.random.default_rng(0).integers(0, 256, (48, 200, 3))
    for name in ("gt", "alpha", "beta"):
        Image.fromarray(pixels if name == "gt" else pixels[:, ::-1]).save(folders[name] / "cat.png")
    key = write_sheets(
        tmp_path / "s", tmp_path / "k.json", {n: folders[n] for n in ("alpha", "beta")}, folders["lr"], folders["gt"],
        window=SIDE, seed=0,
    )  # fmt: skip
    (left,) = (row.box[0] for row in key.rows if row.image == "cat")
    assert left >= 200


def test_seed_truth_and_small_images(folders: dict[str, Path], tmp_path: Path) -> None:
    systems = {name: folders[name] for name in ("alpha", "beta")}
    first = write_sheets(tmp_path / "1", tmp_path / "1.json", systems, folders["lr"], count=2, window=128)
    again = write_sheets(
        tmp_path / "2", tmp_path / "2.json", systems, folders["lr"], count=2, window=128, seed=first.seed
    )
    assert again == first
    assert (tmp_path / "1" / "sheet-01.png").read_bytes() == (tmp_path / "2" / "sheet-01.png").read_bytes()
    assert [row.box for row in first.rows] == [(0, 0, 64, 48)] * 2
    with Image.open(tmp_path / "1" / "sheet-01.png") as sheet:
        assert sheet.width == 3 * 128 + 4 * _GAP


def test_sheets_are_no_longer_than_their_rows(arguments: list[str]) -> None:
    assert runner.invoke(app, [*arguments, "--rows", "1000"]).exit_code == 0
    assert [path.name for path in Path(arguments[2]).iterdir()] == ["sheet-01.png"]


def test_mistakes_are_explained(arguments: list[str], folders: dict[str, Path], tmp_path: Path) -> None:
    sheets = Path(arguments[2])
    for typed, message in (
        ([*arguments[:4], *arguments[5:]], "compare two systems, got 1"),
        ([*arguments[:4], *arguments[3:]], "same name"),
        ([*arguments, "--count", "5"], "1 to 4 images can be shown, not 5"),
        ([*arguments, "--key", str(sheets / "key.json")], "is among the sheets"),
        ([*arguments, "--key", "key.png"], "--key key.png: is the name of a picture"),
        ([*arguments, "--window", "9000"], "16383 are possible: take smaller windows"),
        ([*arguments, "--lr", str(tmp_path / "none")], "none"),
    ):
        result = runner.invoke(app, typed)
        assert (result.exit_code, message in result.output, sheets.exists()) == (2, True, False), result.output
    systems = {name: folders[name] for name in TINTS if name != "gamma"}
    for output in ("taken", "taken.json"):
        (tmp_path / output).touch()
        outputs = [tmp_path / (output if output == "taken" else "free"), tmp_path / "taken.json"]
        with pytest.raises(InvalidInputError, match=f"{output}: already exists"):
            write_sheets(*outputs, systems, folders["lr"])
    with pytest.raises(InvalidInputError, match="magnify must be at least 1, got 0"):
        write_sheets(sheets, tmp_path / "key.json", systems, folders["lr"], magnify=0)
    (folders["beta"] / "cat.png").write_bytes(b"no picture")
    with pytest.raises(DatasetError, match=r"cat\.png.*no sheets were made"):
        write_sheets(sheets, tmp_path / "key.json", systems, folders["lr"])
    (folders["beta"] / "cat.png").unlink()
    with pytest.raises(DatasetError, match="beta lacks cat"):
        write_sheets(sheets, tmp_path / "key.json", systems, folders["lr"])
    Image.new("RGB", (9, 9)).save(folders["beta"] / "cat.png")
    with pytest.raises(DatasetError, match="1 of 8 pairs differ in size"):
        write_sheets(sheets, tmp_path / "key.json", systems, folders["lr"], folders["gt"])
    assert not list(tmp_path.glob("*key.json"))
    assert not sheets.exists()


def test_a_damaged_key_is_refused(arguments: list[str], tmp_path: Path) -> None:
    assert runner.invoke(app, arguments).exit_code == 0
    path = tmp_path / "key.json"
    data = json.loads(path.read_text())
    for change, message in (
        ({"format": 9}, "format 9 cannot be read"),
        ({"rows": data["rows"][1:]}, r"not the key of blind sheets.*\(row 1 is wrong\)"),
        ({"systems": ["alpha", "gamma"]}, r"not the key of blind sheets.*\(row 1 is wrong\)"),
        ({"systems": ["alpha"]}, r"\(it does not name two systems\)"),
        ({"rows": []}, "no rows"),
        ({"rows": [{"row": 1}]}, r"\(order is missing\)"),
        ({"rows": [{**data["rows"][0], "box": [1]}]}, r"\(its content has another form\)"),
        ({"rows": [data["rows"][0], {**data["rows"][0], "row": 2}]}, "twice in the same order"),
        ({"seed": float("inf")}, "not the key of blind sheets"),
    ):
        path.write_text(json.dumps({**data, **change}))
        with pytest.raises(DatasetError, match=message):
            SheetKey.load(path)
    with pytest.raises(DatasetError, match="`tsdsr study sheets` writes the key"):
        SheetKey.load(tmp_path / "none.json")
