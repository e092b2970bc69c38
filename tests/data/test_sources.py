from __future__ import annotations

import logging
import shutil
from pathlib import Path

import pytest

from tsdsr.data.sources import (
    Source,
    UnreadableFiles,
    files_by_stem,
    list_photos,
    open_source,
    read_list,
    split_photos,
)
from tsdsr.errors import DatasetError, InvalidInputError


def tree(root: Path, *files: str) -> Path:
    for name in files:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


def names(source: Source) -> list[str]:
    return [p.name for p in source.images]


def test_folders_are_searched_in_depth_for_any_format(photo_folder: Path) -> None:
    (photo_folder / "notes.txt").touch()
    assert [p.name for p in list_photos(photo_folder)] == ["astronaut.png", "cat.webp", "coffee.jpg", "rocket.bmp"]
    assert names(open_source(str(photo_folder))) == names(open_source(f"folder:{photo_folder}"))
    with pytest.raises(InvalidInputError, match="no photographs"):
        list_photos(photo_folder / "nowhere")


def test_lists_name_files_beside_them(photo_folder: Path) -> None:
    file = photo_folder / "some.txt"
    file.write_text("cat.webp\n# a comment\n\nmore/rocket.bmp  # another\n")
    assert names(open_source(str(file))) == ["cat.webp", "rocket.bmp"]
    file.write_text("cat.webp\ndog.webp\n")
    with pytest.raises(DatasetError, match=r"1 of 2 .*dog\.webp"):
        read_list(file)


def test_layouts_find_the_high_quality_images_only(tmp_path: Path) -> None:
    div2k = tree(tmp_path / "a", "DIV2K_train_HR/0001.png", "DIV2K_train_LR_bicubic/X4/0001x4.png")
    assert names(open_source(f"div2k:{div2k}")) == ["0001.png"]
    assert names(open_source(f"div2k:{div2k / 'DIV2K_train_HR'}")) == ["0001.png"]
    flickr = tree(tmp_path / "b", "Flickr2K/Flickr2K_HR/000001.png", "Flickr2K/Flickr2K_LR_bicubic/000001x2.png")
    assert names(open_source(f"flickr2k:{flickr}")) == ["000001.png"]
    lsdir = tree(tmp_path / "c", "HR/train/0001000/0000001.png", "HR/val/0000002.png", "X4/train/0001000/0000001x4.png")
    assert names(open_source(f"lsdir:{lsdir}")) == ["0000001.png"]
    ffhq = tree(tmp_path / "d", *(f"images1024x1024/{i // 2:02d}000/{i:05d}.png" for i in range(6)))
    assert names(open_source(f"ffhq:{ffhq},limit=4,weight=0.5")) == [f"{i:05d}.png" for i in range(4)]
    assert open_source(f"ffhq:{ffhq},limit=4,weight=0.5").weight == 0.5
    with pytest.raises(DatasetError, match="does not look like div2k"):
        open_source(f"div2k:{ffhq}")


@pytest.mark.parametrize("option", ["limit=many", "weight=0", "weight=x", "colour=red"])
def test_wrong_options_are_refused(photo_folder: Path, option: str) -> None:
    with pytest.raises(InvalidInputError):
        open_source(f"{photo_folder},{option}")


def test_customary_endings_of_stems_do_not_count(tmp_path: Path) -> None:
    tree(tmp_path, "lr/Canon_001_LR4.png", "lr/b.jpg", "lr/c_HRx4.webp")
    assert list(files_by_stem(tmp_path / "lr")) == ["Canon_001", "b", "c_HR"]
    assert list(files_by_stem(tmp_path / "lr", ["_HRx4"])) == ["Canon_001_LR4", "b", "c"]
    tree(tmp_path, "hr/a.png", "hr/a_LR.png")
    with pytest.raises(DatasetError, match="would both be called 'a'"):
        files_by_stem(tmp_path / "hr")


def test_the_split_is_stable_and_complete() -> None:
    photos = [Path(f"{i:05d}.jpg") for i in range(1000)]
    train, held_out = split_photos(photos, 0.1)
    assert sorted(train + held_out) == photos
    assert 60 < len(held_out) < 140
    assert split_photos(photos[:500], 0.1)[1] == [p for p in held_out if p in set(photos[:500])]


def test_bad_files_are_reported_once_and_too_many_stop(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    files = [tmp_path / f"{i}.png" for i in range(40)]
    health = UnreadableFiles(files, limit=0.05)
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            health.report(files[3], "3.png: broken")
        health.report(files[5], "5.png: broken")
    assert len(caplog.records) == health.count == 2
    assert health.is_bad(files[3])
    assert not health.is_bad(files[4])
    with pytest.raises(DatasetError, match="3 of 40 images cannot be used"):
        health.report(files[6], "6.png: broken")


def test_empty_sources_are_refused() -> None:
    with pytest.raises(InvalidInputError, match="nothing"):
        Source("nothing", ())


def test_copies_do_not_confuse(photo_folder: Path) -> None:
    shutil.copy(photo_folder / "cat.webp", photo_folder / "more" / "cat.webp")
    assert len(list_photos(photo_folder)) == 5
