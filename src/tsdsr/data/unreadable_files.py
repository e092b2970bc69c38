"""Record of unusable files of a dataset, shared by all loader processes."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from tsdsr.errors import DatasetError, ImageError, MissingDependencyError
from tsdsr.images.reading import read_rgb
from tsdsr.wording import counted

logger = logging.getLogger(__name__)

ACCEPTED_UNREADABLE = 3
"""Number of bad files that never stops a run, unless they are more than half of all."""


class UnreadableFiles:
    """Tracks unusable files of a dataset. The state is shared by all loader processes.

    Each bad file is reported once and skipped from then on. In a small dataset, :data:`ACCEPTED_UNREADABLE` bad files
    are accepted whatever their share, but no more than half of the files.

    Args:
        files (sequence of Path): all files of the dataset.
        limit (float): largest accepted share of bad files.
        outcome (str): what is said to have become of a bad file.
    """

    def __init__(self, files: Sequence[Path], limit: float = 0.05, outcome: str = "left out") -> None:
        self._numbers = {path: i for i, path in enumerate(files)}
        self._bad = torch.zeros(len(files), dtype=torch.bool)
        self._bad.share_memory_()  # type: ignore[no-untyped-call]
        self.limit, self.outcome = limit, outcome
        self._accepted = max(limit * len(files), min(ACCEPTED_UNREADABLE, len(files) // 2))

    @property
    def count(self) -> int:
        """Number of bad files so far."""
        return int(self._bad.sum())

    def is_bad(self, path: Path) -> bool:
        return bool(self._bad[self._numbers[path]])

    def read(
        self, path: Path, min_side: int, read: Callable[[Path], NDArray[np.uint8]] = read_rgb
    ) -> NDArray[np.uint8] | None:
        """Read the pixels (H, W, 3) of a file. If it is unreadable or too small, report it and return None.

        Args:
            path (Path): one of the files.
            min_side (int): smallest usable height and width.
            read (callable): function that reads a file.

        Raises:
            DatasetError: Too many files are bad.
        """
        try:
            pixels = read(path)
        except (ImageError, MissingDependencyError) as error:
            self.report(path, str(error))
            return None
        except OSError as error:
            self.report(path, f"{path}: cannot be read ({error.strerror or error})")
            return None
        height, width = pixels.shape[:2]
        if min(height, width) < min_side:
            self.report(path, f"{path}: {width}x{height} is smaller than {min_side} pixels")
            return None
        return pixels

    def report(self, path: Path, reason: str) -> None:
        """Mark a file as bad and log the reason.

        Raises:
            DatasetError: Too many files are bad.
        """
        if not self.is_bad(path):
            self._bad[self._numbers[path]] = True
            logger.warning("%s: %s", self.outcome, reason)
        self.require_enough(f"; the last: {reason}")

    def require_enough(self, last: str = "") -> None:
        """Check that enough files are left.

        To be called for each bad file that is drawn: another process may have found the last good one to be bad, and
        drawing would never end.

        Raises:
            DatasetError: Too many files are bad; ``last`` is added to the message.
        """
        if self.count > self._accepted:
            share = f"{self.count} of {counted(len(self._numbers), 'image')}"
            raise DatasetError(f"{share} cannot be used, more than {self.limit:.0%}{last}")
