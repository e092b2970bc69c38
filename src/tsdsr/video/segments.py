"""Segments of a result on the disk: what is finished, so that an interrupted run continues."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np

from tsdsr.errors import VideoError
from tsdsr.files import atomic_path, require_writable_folder
from tsdsr.folder_lock import folder_lock
from tsdsr.images.picture import Pixels
from tsdsr.result_records import MadeFrom, ResultRecords


class Segments:
    """The folder of a result's segments, beside the result.

    Args:
        target (Path): the result.
        made_from (mapping): what it is made from. A segment is reused only if it was made from the same.
        keep_last (bool): whether the last frame of a segment is needed to continue after it.
    """

    def __init__(self, target: Path, made_from: MadeFrom, keep_last: bool) -> None:
        self.folder = target.parent / f".{target.name}.segments"
        self._made_from = made_from
        self._keep_last = keep_last
        self._records = ResultRecords()
        self.finished = self._count_finished()
        """Number of segments, from the first, that are there and can be continued after."""

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other runs from the folder. An empty one is removed at the end.

        Raises:
            VideoError: another run has it.
        """
        try:
            with folder_lock(self.folder, VideoError):
                yield
        finally:
            with suppress(OSError):  # it is not empty
                self.folder.rmdir()

    def path(self, number: int) -> Path:
        """Return the file of a segment."""
        return self.folder / f"{number:06}.mkv"

    def _count_finished(self) -> int:
        count = 0
        while self._same(self.path(count), count):
            count += 1
        while self._keep_last and count and not self._same(self._last_path(count - 1), count - 1):
            count -= 1
        return count

    def last_frame(self, number: int) -> Pixels:
        """Return the last restored frame of a finished segment."""
        pixels: Pixels = np.load(self._last_path(number), allow_pickle=False)
        return pixels

    @contextmanager
    def writing(self, number: int) -> Iterator[Path]:
        """Write a segment: yields a temporary file, which takes its place and is recorded if the block succeeds."""
        require_writable_folder(self.folder)
        with atomic_path(self.path(number)) as temporary:
            yield temporary
        self._records.add(self.path(number), self._of(number))

    def keep(self, number: int, last: Pixels) -> None:
        """Store the last frame of a segment before the segment itself, in place of the one before."""
        if not self._keep_last:
            return
        with atomic_path(self._last_path(number)) as temporary, temporary.open("wb") as file:
            np.save(file, last, allow_pickle=False)
        self._records.add(self._last_path(number), self._of(number))
        with suppress(OSError):
            self._last_path(number - 2).unlink()

    def remove(self) -> None:
        """Delete the folder."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _last_path(self, number: int) -> Path:
        return self.folder / f"{number:06}.npy"

    def _same(self, path: Path, number: int) -> bool:
        return self._records.state(path, self._of(number)) == "same"

    def _of(self, number: int) -> MadeFrom:
        return {**self._made_from, "segment": number}
