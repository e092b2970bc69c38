"""What inputs mean."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.unprivileged import unprivileged
from tsdsr.errors import InvalidInputError
from tsdsr.pipeline.sources import OWN_RESULT, TWICE, Sources, find_sources


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """Create files and work in their folder."""

    def fill(*files: str) -> Path:
        for name in files:
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_text(name)
        monkeypatch.chdir(tmp_path)
        return tmp_path

    return fill


def find(*inputs: str, output: str = "out", results: tuple[str, ...] = ()) -> Sources:
    return find_sources(inputs, Path(output), lambda path: str(path) in results)


def usable(sources: Sources) -> list[str]:
    return [str(source.path) for source in sources.found if source.usable]


def errors(sources: Sources) -> list[str]:
    return [str(source.error) for source in sources.found if source.error]


def test_the_same_file_counts_once_however_it_is_named(here: Callable[..., Path]) -> None:
    folder = here("d/a.jpg", "d/b.jpg")
    (folder / "alias.jpg").symlink_to("d/a.jpg")
    os.link(folder / "d" / "b.jpg", folder / "copy.jpg")  # a hard link is a picture of its own
    found = find("d/a.jpg", "./d/a.jpg", str(folder / "d" / "a.jpg"), "alias.jpg", "d", "d/*.jpg", "copy.jpg")
    assert usable(found) == ["d/a.jpg", "d/b.jpg", "copy.jpg"]
    assert errors(found) == []
    assert found.skipped == {TWICE: 6}


def test_the_part_of_a_pattern_that_exists_is_literal(here: Callable[..., Path]) -> None:
    here("d [2023]/a.jpg", "d [2023]/b.png", "d 2/c.jpg", "e*/[1]/x.jpg")
    assert usable(find("d [2023]/*.jpg")) == ["d [2023]/a.jpg"]
    assert usable(find("d [2]/*.jpg")) == ["d 2/c.jpg"]
    assert usable(find("e*/[1]/*.jpg")) == ["e*/[1]/x.jpg"]
    assert usable(find("d [2023]/a.jpg")) == ["d [2023]/a.jpg"]


def test_a_pattern_without_a_match_is_an_error_beside_the_others(here: Callable[..., Path]) -> None:
    here("a.jpg")
    found = find("*.jgp", "a.jpg", "x?.png")
    assert usable(found) == ["a.jpg"]
    assert errors(found) == ["*.jgp: no file matches this pattern", "x?.png: no file matches this pattern"]


def test_patterns_skip_what_is_hidden_and_count_what_is_no_image(here: Callable[..., Path]) -> None:
    here("a.jpg", "b.gif", ".hidden.jpg", "@eaDir/t.jpg", "sub/c.jpg", "sub/.x/d.jpg", "sub/__MACOSX/e.jpg")
    found = find("*")
    assert usable(found) == ["a.jpg", "sub/c.jpg"]
    assert found.skipped[".gif"] == 1
    assert usable(find("**/*.jpg")) == ["a.jpg", "sub/c.jpg"]
    assert usable(find("@eaDir/*.jpg")) == ["@eaDir/t.jpg"]
    assert usable(find("*.gif")) == ["b.gif"]


def test_the_output_folder_and_earlier_results_are_left_out(here: Callable[..., Path]) -> None:
    here("a.jpg", "out/a.jpg", "out/out/a.jpg", "old/a.jpg", "a_x4.png")
    assert usable(find(".", results=("old/a.jpg", "a_x4.png"))) == ["a.jpg"]
    assert find(".", results=("old/a.jpg", "a_x4.png")).skipped == {OWN_RESULT: 2}
    assert usable(find(".", output="./out/", results=())) == ["a.jpg", "a_x4.png", "old/a.jpg"]
    assert usable(find("old/a.jpg", "a.jpg", results=("old/a.jpg",))) == ["old/a.jpg", "a.jpg"]


def test_a_folder_of_nothing_but_results_stands_for_them(here: Callable[..., Path]) -> None:
    here("old/a.jpg", "old/b.jpg")
    assert usable(find("old", results=("old/a.jpg", "old/b.jpg"))) == ["old/a.jpg", "old/b.jpg"]


def test_a_folder_without_an_image_is_an_error(here: Callable[..., Path]) -> None:
    here("a.jpg", "texts/notes.txt", "texts/b.gif")
    (Path("empty")).mkdir()
    found = find("empty", "texts", "a.jpg")
    assert usable(found) == ["a.jpg"]
    assert errors(found) == [
        "empty: no images found in it",
        "texts: no images found in it, only 1 .gif, 1 .txt",
    ]


def test_what_cannot_be_read_is_an_error_of_its_own(here: Callable[..., Path]) -> None:
    folder = here("a.jpg", "d/b.jpg", "d/none/c.jpg", "noexec/e.jpg", "none/f.jpg")
    (folder / "loop.jpg").symlink_to("loop.jpg")
    for name, mode in {"d/none": 0, "none": 0, "noexec": 0o644}.items():
        (folder / name).chmod(mode)
    long = "n" * 300 + ".jpg"
    with unprivileged(folder):
        found = find("a.jpg", "d", "none", "noexec", "none/f.jpg", "loop.jpg", long, "a.jpg/x.jpg", "missing.jpg")
    for name in ("d/none", "none", "noexec"):
        (folder / name).chmod(0o755)
    assert usable(found) == ["a.jpg", "d/b.jpg"]
    denied = "(Permission denied)"
    assert errors(found) == [
        f"d/none: the folder cannot be read {denied}",
        f"none: the folder cannot be read {denied}",
        f"noexec/e.jpg: cannot be read {denied}",
        f"none/f.jpg: cannot be read {denied}",
        "loop.jpg: cannot be read (Too many levels of symbolic links)",
        f"{long}: cannot be read (File name too long)",
        "a.jpg/x.jpg: no such file",
        "missing.jpg: no such file",
    ]


def test_a_pipe_is_read_and_a_device_is_refused(here: Callable[..., Path]) -> None:
    folder = here("a.jpg")
    os.mkfifo(folder / "pipe")
    writer = threading.Thread(target=lambda: (folder / "pipe").write_bytes(b"content"), daemon=True)
    writer.start()
    found = find("pipe", "/dev/null")
    writer.join(timeout=60)
    assert [source.data for source in found.found] == [b"content", None]
    assert errors(found) == ["/dev/null: is neither a file nor a pipe"]


@pytest.mark.parametrize("name", ["", "  ", "a\0b"])
def test_what_is_no_path_is_refused(name: str) -> None:
    with pytest.raises(InvalidInputError, match="input: "):
        find(name)


def test_a_closed_standard_input_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", None)  # what Python makes of a descriptor that is closed
    with pytest.raises(InvalidInputError, match="-: the standard input is closed; pipe an image into it"):
        find("-")
