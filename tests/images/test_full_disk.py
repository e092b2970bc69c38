"""Images on a full disk: an old file stays as it was, and the error names the file."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from tests.images.pictures import SUFFIXES
from tests.small_disk import mounted
from tsdsr.errors import ImageWriteError
from tsdsr.images.checked_file import CheckedFile
from tsdsr.images.picture import Picture
from tsdsr.images.reading import read_picture
from tsdsr.images.writing import write_picture

ROUNDS = 9
"""Sizes of free space tried for each format, from none to nearly enough."""


def noise(seed: int) -> Picture:
    """A picture whose file is large in every format."""
    steps = np.random.default_rng(seed).normal(0, 9, (160, 200, 3))
    return Picture(np.clip(np.cumsum(steps, axis=1) + 128, 0, 255).astype(np.uint8))


@contextmanager
def largest_file(size: int) -> Iterator[None]:
    """Let the system cut writes beyond a file size short, which is what a full disk does."""
    resource = pytest.importorskip("resource")
    old = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, old[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, old)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_write_that_is_cut_short_is_an_error(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a{suffix}"
    write_picture(noise(0), path)
    old = path.read_bytes()
    for part in range(ROUNDS):
        with largest_file(len(old) * part // ROUNDS), pytest.raises(ImageWriteError, match="File too large") as caught:
            write_picture(noise(0), path)
        assert str(path) in str(caught.value)
        assert path.read_bytes() == old
        assert os.listdir(tmp_path) == [path.name]
    write_picture(noise(1), path)
    assert read_picture(path).pixels.shape == (160, 200, 3)


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "No space left on device"), KeyboardInterrupt()], ids=repr)
def test_a_failure_after_some_bytes_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str, error: BaseException
) -> None:
    path, room, write = tmp_path / f"a{suffix}", 3000, CheckedFile.write

    def limited(self: CheckedFile, data: bytes) -> int:
        if self.tell() + len(data) > room:
            raise error
        return write(self, data)

    monkeypatch.setattr(CheckedFile, "write", limited)
    path.write_bytes(b"old")
    with pytest.raises((ImageWriteError, KeyboardInterrupt)) as caught:
        write_picture(noise(0), path)
    if isinstance(error, OSError):
        assert str(caught.value) == f"{path}: cannot be written (No space left on device)"
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == [path.name]


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("damage", ["shorter", "changed"])
def test_bytes_that_the_disk_lost_are_noticed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str, damage: str
) -> None:
    path, verify = tmp_path / f"a{suffix}", CheckedFile.verify

    def after_damage(self: CheckedFile, temporary: Path) -> None:
        content = bytearray(temporary.read_bytes())
        if damage == "shorter":
            del content[-1]
        else:
            content[len(content) // 2] ^= 1
        temporary.write_bytes(content)
        verify(self, temporary)

    monkeypatch.setattr(CheckedFile, "verify", after_damage)
    path.write_bytes(b"old")
    with pytest.raises(ImageWriteError, match=f"a{suffix}.*bytes on the disk|a{suffix}.*bytes are on the disk"):
        write_picture(noise(0), path)
    assert path.read_bytes() == b"old"


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    with mounted(tmp_path / "disk", megabytes=2) as folder:
        yield folder


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_full_file_system(small_disk: Path, suffix: str) -> None:
    path, filler = small_disk / f"a{suffix}", small_disk / "filler"
    write_picture(noise(0), path)
    old = path.read_bytes()
    for part in range(ROUNDS):
        room = len(old) * part // ROUNDS // 4096 * 4096
        status = os.statvfs(small_disk)
        filler.write_bytes(bytes(status.f_bavail * status.f_frsize - room))
        with pytest.raises(ImageWriteError, match="No space left") as caught:
            write_picture(noise(0), path)
        assert str(path) in str(caught.value)
        assert path.read_bytes() == old
        filler.unlink()
    assert os.listdir(small_disk) == [path.name]
