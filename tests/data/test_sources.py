from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from tsdsr.data.sources import (
    Source,
    list_originals,
    list_photos,
    open_source,
    read_list,
    split_photos,
)
from tsdsr.errors import DatasetError, InvalidInputError
from tsdsr.result_records import ResultRecords


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


def test_results_below_the_photographs_are_no_photographs(photo_folder: Path) -> None:
    made = [shutil.copy(photo_folder / "cat.webp", photo_folder / name) for name in ("cat_x4.webp", "up.webp")]
    for path in made:
        ResultRecords().add(path, {"scale": 4})
    assert [p.name for p in list_originals(photo_folder)] == ["astronaut.png", "cat.webp", "coffee.jpg", "rocket.bmp"]
    assert names(open_source(photo_folder)) == [p.name for p in list_originals(photo_folder)]
    for path in list_originals(photo_folder):
        path.unlink()
    assert [p.name for p in list_originals(photo_folder)] == ["cat_x4.webp", "up.webp"]


def test_lists_name_files_beside_them(photo_folder: Path) -> None:
    file = photo_folder / "some.txt"
    file.write_text("cat.webp\n# a comment\n\nmore/rocket.bmp  # another\n")
    assert names(open_source(str(file))) == ["cat.webp", "rocket.bmp"]
    file.write_text("cat.webp\ndog.webp\n")
    with pytest.raises(DatasetError, match=r"1 of 2 .*dog\.webp"):
        read_list(file)


@pytest.mark.parametrize("name", ["with,comma", "a=b", "x,limit=3", "x,weight=2", "#1", "folder:x", "a b", "C:x"])
def test_a_path_that_exists_is_taken_as_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.chdir(tree(tmp_path, *(f"{name}/{i}.png" for i in range(5)), f"{name}.txt"))
    assert len(open_source(name).images) == len(open_source(tmp_path / name).images) == 5
    assert len(open_source(f"folder:{name}").images) == 5
    source = open_source(f"folder:{name},limit=1,weight=0.5,limit=2")
    assert (names(source), source.weight) == (["0.png", "1.png"], 0.5)
    (tmp_path / f"{name}.txt").write_text(f"./{name}/3.png # the fourth")
    assert names(open_source(f"{name}.txt")) == ["3.png"]


def test_an_image_is_a_source_of_one(photo_folder: Path) -> None:
    source = open_source(photo_folder / "coffee.jpg")
    assert (names(source), source.root) == (["coffee.jpg"], photo_folder)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("nope", "nope: no such folder or file"),
        ("folder:nope", "nope: no such folder or file"),
        ("div2k:nope,limit=2", "nope: no such folder or file"),
        ("C:\\photos", "no such folder or file"),
        ("list.txt/below", "no such folder or file"),
        ("n" * 300, "too long"),
        ("a/../a", "cannot be read"),
        ("", "is empty"),
        ("folder:", "is empty"),
        ("a\0b", "null character"),
        ("/dev/null", "neither a folder nor a file"),
        ("movie.gif", "neither an image .* nor a list"),
        ("empty.txt", "no images found"),
    ],
)
def test_sources_that_cannot_be_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, spec: str, message: str
) -> None:
    monkeypatch.chdir(tree(tmp_path, "empty.txt", "list.txt"))
    (tmp_path / "movie.gif").write_bytes(b"GIF89a" + bytes(90))
    (tmp_path / "a").symlink_to("a")
    with pytest.raises((DatasetError, InvalidInputError), match=message):
        open_source(spec)


LATIN_1 = b"caf\xe9.png"


def test_comments_in_lists_follow_white_space(tmp_path: Path) -> None:
    tree(tmp_path, "a#1.png", "b # c.png", "#d.png", " e.png")
    lines = ["\ufeffa#1.png\t# first", "#nothing", "", "  # nothing", "b # c.png", "#d.png", " e.png", "a#1.png"]
    (tmp_path / "list.txt").write_text("\r\n".join(lines))
    assert [p.name for p in read_list(tmp_path / "list.txt")] == ["a#1.png", "b # c.png", "#d.png", " e.png", "a#1.png"]


def test_lists_that_are_not_utf_8_are_refused_by_line(tmp_path: Path) -> None:
    file = tree(tmp_path, "a.png") / "list.txt"
    file.write_bytes(b"a.png\n\n" + LATIN_1)
    with pytest.raises(DatasetError, match=r"list\.txt: line 3 is not UTF-8"):
        open_source(file)
    file.write_text("a.png\n", encoding="utf-16")
    with pytest.raises(DatasetError, match="UTF-8"):
        open_source(file)


def test_names_that_are_not_unicode_are_found(tmp_path: Path) -> None:
    name = os.fsdecode(LATIN_1)
    (tree(tmp_path, "a.png") / name).touch()
    (tmp_path / "list.txt").write_bytes(LATIN_1 + b"\na.png")
    assert names(open_source(tmp_path / "list.txt")) == [name, "a.png"]
    assert names(open_source(tmp_path)) == ["a.png", name]
    assert sum(map(len, split_photos(list_photos(tmp_path), 0.5))) == 2


def test_lists_may_mix_relative_and_absolute_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tree(tmp_path, "a/1.png", "b/2.png"))
    Path("list.txt").write_text(f"a/1.png\n{tmp_path}/b/2.png\n")
    source = open_source("list.txt")
    assert [p.relative_to(source.root).as_posix() for p in source.images] == ["a/1.png", "b/2.png"]


def test_what_a_folder_holds_besides_is_counted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    tree(tmp_path, "a.png", "._a.png", "b.gif", "c.gif", "__MACOSX/d.png", "sub/e.jpg")
    (tmp_path / "loop").symlink_to(tmp_path)
    assert names(open_source(tmp_path)) == ["a.png", "e.jpg"]
    assert "2 .gif" in caplog.text
    assert len(list_photos(tmp_path, leave_out=[tmp_path / "sub"])) == 1


def test_a_large_folder_is_listed_without_a_look_at_each_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tree(tmp_path, *(f"{i:04d}.png" for i in range(500)))
    looks: list[object] = []
    monkeypatch.setattr(os, "stat", lambda *a, f=os.stat, **k: looks.append(a) or f(*a, **k))
    assert len(open_source(tmp_path).images) == 500
    assert len(looks) < 20


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


@pytest.mark.parametrize(
    "option",
    ["limit=many", "limit=0", "limit=-1", "weight=0", "weight=nan", "weight=inf", "weight=x", "colour=red", "limit"],
)
def test_wrong_options_are_refused(photo_folder: Path, option: str) -> None:
    with pytest.raises(InvalidInputError):
        open_source(f"{photo_folder},{option}")


def test_the_split_is_stable_and_complete() -> None:
    photos = [Path(f"{i:05d}.jpg") for i in range(1000)]
    train, held_out = split_photos(photos, 0.1)
    assert sorted(train + held_out) == list(range(1000))
    assert 60 < len(held_out) < 140
    assert split_photos(photos[:500], 0.1)[1] == [number for number in held_out if number < 500]


def test_empty_sources_are_refused() -> None:
    with pytest.raises(InvalidInputError, match="nothing"):
        Source("nothing", ())


def test_copies_do_not_confuse(photo_folder: Path) -> None:
    shutil.copy(photo_folder / "cat.webp", photo_folder / "more" / "cat.webp")
    assert len(list_photos(photo_folder)) == 5
