from __future__ import annotations

import errno
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import tsdsr.pipeline.canvas as canvas_module
from tests.small_disk import mounted
from tsdsr.errors import OutOfMemoryError
from tsdsr.pipeline.canvas import make_canvas
from tsdsr.pipeline.diffusers_pipeline import OneStepSRPipeline
from tsdsr.pipeline.temporary import reserved_file


def test_a_result_that_does_not_fit_comfortably_is_kept_on_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    assert type(make_canvas((8, 8, 3), np.uint8)) is np.ndarray
    monkeypatch.setattr(canvas_module, "free_ram", lambda: 300)
    canvas = make_canvas((8, 8, 3), np.uint16)
    assert isinstance(canvas, np.memmap)
    canvas[:] = 65535
    assert canvas.shape == (8, 8, 3)
    assert canvas.dtype == np.uint16


@pytest.fixture
def small_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder for temporary files with 1 MB."""
    with mounted(tmp_path / "small", megabytes=1) as folder:
        monkeypatch.setattr(tempfile, "tempdir", str(folder))
        yield folder


@pytest.mark.parametrize("color_fix", ["wavelet", "adain"])
def test_a_disk_too_small_for_the_result_is_an_error(
    small_disk: Path, monkeypatch: pytest.MonkeyPatch, mini_pipe: OneStepSRPipeline, color_fix: str
) -> None:
    """Not a signal that ends the process, as a mapping of a file without reserved space would."""
    monkeypatch.setattr(canvas_module, "CANVAS_SHARE", 0.0 if color_fix == "wavelet" else 1.0)
    monkeypatch.setattr(canvas_module, "_SPOOL_BYTES", 0)
    pixels = np.zeros((200, 200, 3), np.uint8)
    with pytest.raises(OutOfMemoryError, match=rf"{small_disk}.* [14]\.\d MB .*TMPDIR"):
        mini_pipe.upscale_pixels(pixels, 4 if color_fix == "wavelet" else 3, color_fix=color_fix)  # type: ignore[arg-type]
    assert not list(small_disk.iterdir())


def test_a_full_disk_found_while_reserving(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def full(file: int, start: int, size: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(os, "posix_fallocate", full, raising=False)
    with pytest.raises(OutOfMemoryError, match=r"cannot take the 2\.00 GB .*No space left.*TMPDIR"):
        reserved_file(2 * 10**9)
    assert not list(tmp_path.iterdir())


def test_no_folder_for_temporary_files(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "gone"))
    with pytest.raises(OutOfMemoryError, match=r"gone: .*No such file.*TMPDIR"):
        reserved_file(10)


@pytest.mark.parametrize("code", [None, errno.EOPNOTSUPP, errno.EINVAL])
def test_space_is_reserved_by_writing_where_the_system_cannot(
    monkeypatch: pytest.MonkeyPatch, code: int | None
) -> None:
    def unsupported(file: int, start: int, size: int) -> None:
        assert code is not None
        raise OSError(code, os.strerror(code))

    if code is None:
        monkeypatch.delattr(os, "posix_fallocate", raising=False)
    else:
        monkeypatch.setattr(os, "posix_fallocate", unsupported, raising=False)
    with reserved_file(2**20 + 5) as file:
        assert file.tell() == 0
        assert os.fstat(file.fileno()).st_blocks * 512 >= 2**20
        assert len(file.read()) == 2**20 + 5
