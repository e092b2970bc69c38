"""Files are checked before work, replaced as a whole or not at all, and never left behind."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

import tsdsr.files as files
from tsdsr.errors import FileWriteError, InvalidInputError
from tsdsr.files import as_path, atomic_folder, atomic_path, require_writable_file, require_writable_folder, write_text


@pytest.fixture
def umask() -> Iterator[int]:
    old = os.umask(0o027)
    yield 0o027
    os.umask(old)


def names(folder: Path) -> list[str]:
    return sorted(os.listdir(folder))


def test_a_new_file_gets_the_umasks_permissions_and_an_old_one_keeps_its_own(tmp_path: Path, umask: int) -> None:
    path = tmp_path / "a.json"
    write_text(path, "1")
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    path.chmod(0o604)
    with atomic_path(path) as temporary:
        temporary.unlink()  # as libraries do that write a private file and rename it
        temporary.write_text("2")
        temporary.chmod(0o600)
    assert path.read_text() == "2"
    assert stat.S_IMODE(path.stat().st_mode) == 0o604


def test_a_folders_files_get_the_umasks_permissions(tmp_path: Path, umask: int) -> None:
    with atomic_folder(tmp_path / "model") as folder:
        (folder / "unet").mkdir()
        (folder / "unet" / "w.safetensors").write_text("w")
        (folder / "unet" / "w.safetensors").chmod(0o600)
    assert stat.S_IMODE((tmp_path / "model").stat().st_mode) == 0o750
    assert stat.S_IMODE((tmp_path / "model" / "unet" / "w.safetensors").stat().st_mode) == 0o640
    assert names(tmp_path) == ["model"]


@pytest.mark.parametrize("old", [True, False])
@pytest.mark.parametrize(
    "error", [OSError(errno.ENOSPC, "No space left on device"), ValueError("bad"), SystemExit(143)]
)
def test_a_failed_block_changes_nothing(tmp_path: Path, error: BaseException, old: bool) -> None:
    path = tmp_path / "a.txt"
    if old:
        path.write_text("old")
    before = names(tmp_path)
    kind = FileWriteError if isinstance(error, OSError) else type(error)

    def write() -> None:
        with atomic_path(path) as temporary:
            temporary.write_text("half")
            raise error

    with pytest.raises(kind) as caught:
        write()
    assert names(tmp_path) == before
    assert not old or path.read_text() == "old"
    if kind is FileWriteError:
        assert str(caught.value) == f"{path}: cannot be written (No space left on device)"


def test_what_cannot_be_flushed_replaces_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.txt"
    path.write_text("old")

    monkeypatch.setattr(os, "fsync", lambda _: (_ for _ in ()).throw(OSError(errno.EIO, "Input/output error")))
    with pytest.raises(FileWriteError, match="Input/output error"), atomic_path(path) as temporary:
        temporary.write_text("new")
    assert path.read_text() == "old"
    assert names(tmp_path) == ["a.txt"]


def test_failed_writes_of_libraries_are_told_as_such(tmp_path: Path) -> None:
    texts = ("Error while serializing: I/O error: No space left on device (os error 28)", "PytorchStreamWriter failed")
    for text in texts:
        with pytest.raises(FileWriteError, match=r"a\.pt: cannot be written"), atomic_path(tmp_path / "a.pt"):
            raise RuntimeError(f"{text}\nframe #0")
    with pytest.raises(RuntimeError, match="shape"), atomic_path(tmp_path / "a.pt"):
        raise RuntimeError("shape")


def test_names_of_255_bytes_are_written_and_many_writers_do_not_collide(tmp_path: Path) -> None:
    name = "写" * 82 + ".jpg"
    write_text(tmp_path / name, "x")
    with atomic_path(tmp_path / "b") as one, atomic_path(tmp_path / "b") as two:
        assert one != two
        one.write_text("1")
        two.write_text("2")
    assert names(tmp_path) == sorted([name, "b"])


def test_old_leftovers_go_and_young_ones_stay(tmp_path: Path) -> None:
    old, young, foreign = tmp_path / ".tsdsr-1.tmp", tmp_path / ".tsdsr-2.tmp", tmp_path / ".other-3.tmp"
    folder = tmp_path / ".tsdsr-4.tmp"
    folder.mkdir()
    (folder / "part").write_text("")
    for path in (old, young, foreign):
        path.write_text("")
    for path in (old, foreign, folder):
        os.utime(path, (0, 0))
    write_text(tmp_path / "a", "x")
    assert names(tmp_path) == [foreign.name, young.name, "a"]


def test_links_are_followed_and_pipes_are_written(tmp_path: Path) -> None:
    (tmp_path / "real.txt").write_text("old")
    (tmp_path / "link.txt").symlink_to("real.txt")
    write_text(tmp_path / "link.txt", "new")
    assert (tmp_path / "link.txt").is_symlink()
    assert (tmp_path / "real.txt").read_text() == "new"
    device = os.stat(os.devnull).st_mode
    write_text(os.devnull, "x")
    assert os.stat(os.devnull).st_mode == device


def test_texts_are_utf_8_whatever_the_name(tmp_path: Path) -> None:
    write_text(tmp_path / "a", "↑ \udcff")
    assert (tmp_path / "a").read_bytes() == b"\xe2\x86\x91 \\udcff"


@pytest.mark.parametrize("value", ["", " ", b"x", None, 3, "a\0b"])
def test_what_is_no_path_is_refused_by_its_name(value: object) -> None:
    with pytest.raises(InvalidInputError, match=r"^--photos: "):
        as_path(value, "--photos")


def test_outputs_are_checked_without_a_trace(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    (tmp_path / "folder").mkdir()
    (tmp_path / "loop").symlink_to("loop")
    before = names(tmp_path)
    for path, reason in (
        (tmp_path / "folder", "is a folder"),
        (tmp_path / "file" / "x.png", "Not a directory"),
        (tmp_path / "loop" / "x.png", "Too many levels"),
        (tmp_path / ("y" * 300), "too long"),
        (tmp_path / "new" / ("y" * 300), "longer than the 255 bytes"),
        (Path("/proc/x.json"), "cannot be written"),
    ):
        with pytest.raises(InvalidInputError, match=reason):
            require_writable_file(path)
    with pytest.raises(InvalidInputError, match="is a file"):
        require_writable_folder(tmp_path / "file")
    with pytest.raises(InvalidInputError, match="Not a directory"):
        require_writable_folder(tmp_path / "file" / "below")
    assert require_writable_file(tmp_path / "new" / "deep" / "x.png") == tmp_path / "new" / "deep" / "x.png"
    assert require_writable_file(tmp_path / "file") == tmp_path / "file"
    assert require_writable_folder(tmp_path / "new" / "deep") == tmp_path / "new" / "deep"
    require_writable_file(os.devnull)
    assert names(tmp_path) == before


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_folders_without_permission_are_refused_before_work(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    try:
        for check in (require_writable_file, require_writable_folder):
            with pytest.raises(InvalidInputError, match="Permission denied"):
                check(tmp_path / "x")
    finally:
        tmp_path.chmod(0o700)


def test_a_refused_folder_is_reported_with_any_user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(folder: Path) -> tuple[Path, int]:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(files, "_new_file", refuse)
    with pytest.raises(InvalidInputError, match=r"x\.json: cannot be written \(Permission denied\)"):
        require_writable_file(tmp_path / "x.json")
