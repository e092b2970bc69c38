"""Matching files of several folders by name."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from tsdsr.errors import DatasetError, InvalidInputError
from tsdsr.evaluation.pairing import check_sizes, images_by_name, match_folders


def tree(folder: Path, *names: str) -> Path:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return folder


def test_customary_endings_of_stems_do_not_count(tmp_path: Path) -> None:
    lr = tree(tmp_path / "lr", "Canon_001_LR4.png", "b.jpg", "c_HRx4.webp", "_HR.png")
    assert list(images_by_name(lr)) == ["Canon_001", "_HR", "b", "c_HR"]
    assert list(images_by_name(lr, ["_HRx4", ""])) == ["Canon_001_LR4", "_HR", "b", "c"]
    with pytest.raises(DatasetError, match=r"a\.png and a_LR\.png would both be called 'a'"):
        images_by_name(tree(tmp_path / "hr", "a.png", "a_LR.png"))


def test_names_match_in_both_forms_of_accented_letters(tmp_path: Path) -> None:
    """A disk of macOS gives out decomposed letters."""
    true, out = tree(tmp_path / "true", "caf\u00e9.png"), tree(tmp_path / "out", "cafe\u0301_x4.png")
    assert [name for name, _ in match_folders({"true": true, "out": out})] == ["caf\u00e9"]


def test_every_format_is_an_image_and_system_files_are_none(tmp_path: Path) -> None:
    names = ["a.avif", "b.heic", "c.HEIF", "d.jpeg", "e.tiff", "x/f.bmp"]
    tree(tmp_path, *names, "._a.jpg", "__MACOSX/a.jpg", "@eaDir/a.jpg", ".thumbnails/a.jpg", "notes.txt")
    assert [path.relative_to(tmp_path).as_posix() for path in images_by_name(tmp_path).values()] == names


def test_unique_stems_match_wherever_they_lie(tmp_path: Path) -> None:
    true, out = tree(tmp_path / "true", "x/a_HR.png", "y/b_HR.png"), tree(tmp_path / "out", "b.png", "a.png")
    matched = match_folders({"true": true, "out": out})
    assert [(name, files["out"].name) for name, files in matched] == [("a", "a.png"), ("b", "b.png")]


def test_repeated_stems_match_by_path(tmp_path: Path) -> None:
    true = tree(tmp_path / "true", "x/1_HR.png", "y/1_HR.png", "z.png")
    out = tree(tmp_path / "out", "x/1_LR4.png", "y/1_LR4.png", "z.png")
    matched = match_folders({"true": true, "out": out})
    assert [name for name, _ in matched] == ["x/1", "y/1", "z"]
    assert all(files["true"].parent.name == files["out"].parent.name for _, files in matched[:2])
    (out / "y" / "1_LR4.png").rename(out / "other.png")
    with pytest.raises(DatasetError, match=r"path within the folder.*true lacks other; .*out lacks y/1"):
        match_folders({"true": true, "out": out})


def test_missing_folders_are_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match="none"):
        match_folders({"out": tmp_path / "none"})


def test_unreadable_files_do_not_hide_other_sizes(tmp_path: Path) -> None:
    tree(tmp_path, "broken.png")
    for name, size in (("a.png", 3), ("b.png", 4)):
        Image.new("RGB", (size, 3)).save(tmp_path / name)
    a, b, broken = (tmp_path / name for name in ("a.png", "b.png", "broken.png"))
    with pytest.raises(DatasetError, match=r"1 of 2 pairs differ in size: .*a\.png is 3x3, .*b\.png is 4x3"):
        check_sizes([(broken, a), (a, b)])
    check_sizes([(broken, a), (a, a)])
