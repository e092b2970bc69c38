"""Creation of a study: pictures, rejected input, and detection of later changes."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from tests.images.unusual import UNUSUAL, write_float, write_unusual
from tests.study.conftest import CATEGORIES, STEMS, TINTS, Make
from tsdsr.errors import DatasetError, InvalidInputError
from tsdsr.study.create import create_study, read_categories
from tsdsr.study.definition import DEFINITION, Study, check_pictures, picture_path


def chunks(path: Path) -> set[bytes]:
    """Kinds of the chunks of a PNG file."""
    data, at, found = path.read_bytes(), 8, set()
    while at < len(data):
        (length,) = struct.unpack(">I", data[at : at + 4])
        found.add(data[at + 4 : at + 8])
        at += 12 + length
    return found


def test_pictures_are_pixels_and_nothing_else(make: Make, folders: dict[str, Path], tmp_path: Path) -> None:
    source = folders["beta"] / "dog.png"
    with Image.open(source) as image:
        telling = PngImagePlugin.PngInfo()
        telling.add_text("Software", "beta")
        image.save(source, pnginfo=telling, dpi=(72, 72))
    study = make()
    assert Study.load(tmp_path / "study") == study
    assert study.systems == tuple(TINTS)
    assert {image.stem: image.category for image in study.images} == CATEGORIES
    dog = next(image for image in study.images if image.stem == "dog")
    for key in (dog.input, dog.reference, *dog.candidates):
        path = picture_path(tmp_path / "study", key)
        assert chunks(path) == {b"IHDR", b"IDAT", b"IEND"}
        with Image.open(path) as image:
            assert (image.size, image.mode) == ((64, 48), "RGB")
    with Image.open(picture_path(tmp_path / "study", dog.candidates[1])) as shown, Image.open(source) as original:
        assert np.array_equal(np.asarray(shown), np.asarray(original))
    check_pictures(study, tmp_path / "study")


@pytest.mark.parametrize("name", UNUSUAL)
def test_pictures_show_what_the_files_show(tmp_path: Path, name: str) -> None:
    _, shown = write_unusual(tmp_path / "in", name)
    folder = tmp_path / "in"
    study = create_study(tmp_path / "study", folder, folder, {"a": folder, "b": folder})
    for key in (study.images[0].reference, *study.images[0].candidates):
        assert np.array_equal(np.asarray(Image.open(picture_path(tmp_path / "study", key))), shown)


def test_floating_point_files_are_refused_by_name(tmp_path: Path) -> None:
    folder = write_float(tmp_path / "in").parent
    with pytest.raises(DatasetError, match=r"1 picture cannot be used: .*float\.tif: contains floating-point values"):
        create_study(tmp_path / "study", folder, folder, {"a": folder, "b": folder})


def test_unreadable_pictures_are_all_named_and_nothing_is_left(
    make: Make, folders: dict[str, Path], tmp_path: Path
) -> None:
    for path in (folders["alpha"] / "house.png", folders["lr"] / "tree.png"):
        path.write_bytes(path.read_bytes()[:60])
    with pytest.raises(DatasetError, match=r"2 pictures cannot be used: .*alpha/house\.png.*lr/tree\.png"):
        make()
    assert list((tmp_path / "study").rglob("*")) == []
    for stem in ("house", "tree"):
        for label in folders:
            (folders[label] / f"{stem}.png").unlink()
    assert len(make(categories=None).images) == 2


def test_names_that_are_not_unicode_are_stored_with_escapes(folders: dict[str, Path], tmp_path: Path) -> None:
    """The database and the page hold Unicode; a vote on such an image would fail otherwise."""
    for label in folders:
        (folders[label] / "cat.png").rename(folders[label] / "caf\udce9.png")
    systems = {"alpha\udce9": folders["alpha"], "beta": folders["beta"]}
    study = create_study(tmp_path / "study", folders["lr"], folders["gt"], systems, title="t\udce9")
    assert Study.load(tmp_path / "study") == study
    assert (study.title, study.systems) == (r"t\udce9", (r"alpha\udce9", "beta"))
    assert r"caf\udce9" in {image.stem for image in study.images}


def test_a_study_among_its_pictures_is_no_picture(folders: dict[str, Path]) -> None:
    systems = {name: folders[name] for name in ("alpha", "beta")}
    left = folders["gt"] / "study" / "pictures" / "left.png"
    left.parent.mkdir(parents=True)
    left.write_bytes((folders["gt"] / "cat.png").read_bytes())
    study = create_study(folders["gt"] / "study", folders["lr"], folders["gt"], systems)
    assert len(study.images) == 4


def test_invalid_input_is_rejected_before_anything_is_written(
    make: Make, folders: dict[str, Path], tmp_path: Path
) -> None:
    alpha, beta = folders["alpha"], folders["beta"]
    for options, message in (
        ({"systems": {"alpha": alpha}}, "two systems or more"),
        ({"systems": {"": alpha, "b": beta}}, "has no name"),
        ({"shown": 4}, "2 to 3 of 3"),
        ({"shown": 1}, "2 to 3 of 3"),
        ({"per_voter": 0}, "1 to 4 images"),
        ({"per_voter": 5}, "1 to 4 images"),
        ({"gt": tmp_path / "nowhere"}, "no photographs"),
    ):
        with pytest.raises(InvalidInputError, match=message):
            make(**options)
    with Image.open(beta / "cat.png") as image:
        image.resize((32, 24)).save(beta / "cat.png")
    with pytest.raises(DatasetError, match=r"1 of 12 pairs differ.*beta.cat\.png is 32x24"):
        make()
    (beta / "cat.png").unlink()
    with pytest.raises(DatasetError, match=r"beta lacks cat"):
        make()
    assert not (tmp_path / "study").exists()


def test_a_study_is_never_overwritten(make: Make) -> None:
    make()
    with pytest.raises(InvalidInputError, match="already contains a study"):
        make()


def test_categories_from_files(make: Make, tmp_path: Path) -> None:
    table = tmp_path / "c.tsv"
    table.write_text("image\tcategory\n" + "".join(f"{stem}\tA, b\n" for stem in STEMS))
    assert read_categories(table) == dict.fromkeys(STEMS, "A, b")
    assert make(categories=table).categories == ("A, b",)
    for text, message in (
        ("cat\tA\nfish\tB\n", r"4 stems.*dog \(no category\), fish \(no such image\)"),
        ("cat\tA\ncat\tB\n", "row 2 names cat again"),
        ("cat\tA\tB\n", "two cells are needed"),
        ("cat\n", "two cells are needed"),
    ):
        table.write_text(text)
        (tmp_path / "study" / DEFINITION).unlink(missing_ok=True)
        with pytest.raises(DatasetError, match=message):
            make(categories=table)
    with pytest.raises(DatasetError, match="cannot be read"):
        read_categories(tmp_path / "nowhere.csv")


def test_categories_from_subfolders(make: Make, folders: dict[str, Path]) -> None:
    for stem in STEMS[:3]:
        target = folders["gt"] / CATEGORIES[stem]
        target.mkdir(exist_ok=True)
        (folders["gt"] / f"{stem}.png").rename(target / f"{stem}.png")
    with pytest.raises(DatasetError, match="others are not: tree"):
        make(categories=None)
    (folders["gt"] / "Vegetation").mkdir()
    (folders["gt"] / "tree.png").rename(folders["gt"] / "Vegetation" / "tree.png")
    study = make(categories=None)
    assert {image.stem: image.category for image in study.images} == CATEGORIES


def test_without_categories(make: Make) -> None:
    assert make(categories=None).categories == ()


def test_changes_are_noticed(make: Make, tmp_path: Path) -> None:
    study = make()
    folder = tmp_path / "study"
    path = picture_path(folder, study.images[2].candidates[0])
    Image.new("RGB", (64, 48)).save(path)
    with pytest.raises(DatasetError, match="has changed since"):
        check_pictures(study, folder)
    path.unlink()
    with pytest.raises(DatasetError, match="house needs it"):
        check_pictures(study, folder)


def test_definitions_that_cannot_be_read(make: Make, tmp_path: Path) -> None:
    make()
    path = tmp_path / "study" / DEFINITION
    data = json.loads(path.read_text())
    for change, message in (({"format": 9}, "format 9"), ({"systems": 3}, "not the definition")):
        path.write_text(json.dumps({**data, **change}))
        with pytest.raises(DatasetError, match=message):
            Study.load(tmp_path / "study")
    with pytest.raises(DatasetError, match="study create"):
        Study.load(tmp_path)
