"""Which files of a folder are images."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.unprivileged import unprivileged
from tsdsr.errors import ImageReadError
from tsdsr.images.listing import HIDDEN, LINKED, describe_skipped, list_images


def fill(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"")
    return folder


def found(folder: Path, **arguments: object) -> list[str]:
    return [path.as_posix() for path in list_images(folder, **arguments).images]  # type: ignore[arg-type]


def test_images_are_listed_in_order_with_relative_names(tmp_path: Path) -> None:
    fill(tmp_path, "b.PNG", "a.jpg", "sub/deep/c.jfif", "sub/b.jpe", "sub.heic", "Ä ü.webp")
    assert found(tmp_path) == ["a.jpg", "b.PNG", "sub/b.jpe", "sub/deep/c.jfif", "sub.heic", "Ä ü.webp"]


def test_hidden_and_system_files_are_no_images(tmp_path: Path) -> None:
    fill(
        tmp_path, "a.jpg", "._a.jpg", ".DS_Store", "Thumbs.db", "__MACOSX/._a.jpg", ".thumbnails/t.jpg",
        "@eaDir/a.jpg/SYNOPHOTO_THUMB_M.jpg", "#recycle/old.jpg", "$RECYCLE.BIN/x/y.png", "more/@EADIR/b.jpg",
        "System Volume Information/c.jpg", "more/b.jpg",
    )  # fmt: skip
    listing = list_images(tmp_path)
    assert [path.as_posix() for path in listing.images] == ["a.jpg", "more/b.jpg"]
    assert listing.skipped == {HIDDEN: 8}


def test_a_hidden_folder_is_read_if_it_is_asked_for(tmp_path: Path) -> None:
    fill(tmp_path, ".thumbnails/t.jpg")
    assert found(tmp_path / ".thumbnails") == ["t.jpg"]


def test_what_is_left_out_is_counted_by_suffix(tmp_path: Path) -> None:
    fill(tmp_path, "a.jpg", "b.gif", "more/c.GIF", "d.mov", "README")
    (tmp_path / "linked").symlink_to(tmp_path / "more")
    listing = list_images(tmp_path)
    assert listing.skipped == {"": 1, ".gif": 2, ".mov": 1, LINKED: 1}
    assert describe_skipped(listing.skipped) == "1 without a suffix, 2 .gif, 1 .mov, 1 linked folder"


def test_folders_that_are_left_out_are_not_entered(tmp_path: Path) -> None:
    fill(tmp_path, "a.jpg", "out/a.jpg", "out/more/b.jpg", "more/out/c.jpg")
    (tmp_path / "alias").symlink_to(tmp_path / "out")
    assert found(tmp_path, leave_out=[tmp_path / "alias"]) == ["a.jpg", "more/out/c.jpg"]


def test_a_link_that_leads_nowhere_is_listed_so_that_it_is_reported(tmp_path: Path) -> None:
    (tmp_path / "gone.jpg").symlink_to(tmp_path / "missing.jpg")
    (tmp_path / "loop.jpg").symlink_to(tmp_path / "loop.jpg")
    assert found(tmp_path) == ["gone.jpg", "loop.jpg"]


def test_a_folder_that_cannot_be_read_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ImageReadError, match=r"missing: the folder cannot be read \(No such file"):
        list_images(tmp_path / "missing")
    fill(tmp_path, "a.jpg", "locked/b.jpg", "sub/c.jpg")
    (tmp_path / "locked").chmod(0)
    with unprivileged(tmp_path):
        with pytest.raises(ImageReadError, match=r"locked: the folder cannot be read \(Permission denied"):
            list_images(tmp_path)
        errors: list[tuple[Path, str]] = []
        assert found(tmp_path, on_error=lambda path, error: errors.append((path, str(error)))) == ["a.jpg", "sub/c.jpg"]
        locked = tmp_path / "locked"
        assert errors == [(locked, f"{locked}: the folder cannot be read (Permission denied)")]
        with pytest.raises(ImageReadError, match="Permission denied"):
            list_images(tmp_path / "locked", on_error=lambda *_: None)
    (tmp_path / "locked").chmod(0o755)
