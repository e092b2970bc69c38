"""Record of unusable files of a dataset, shared by all loader processes."""

from __future__ import annotations

import logging
from collections.abc import Callable

import torch

from tsdsr.data.photographs import LoadedPhoto, Photo, load_photo, load_usable
from tsdsr.errors import DatasetError
from tsdsr.wording import counted

logger = logging.getLogger(__name__)

ACCEPTED_UNREADABLE = 3
"""Number of bad files that never stops a run, unless they are more than half of all."""


class UnreadableFiles:
    """Tracks unusable files of a dataset by number. The state is shared by all loader processes.

    Each bad file is reported once and skipped from then on. In a small dataset, :data:`ACCEPTED_UNREADABLE` bad files
    are accepted whatever their share, but no more than half of the files.

    Args:
        total (int): number of files of the dataset.
        limit (float): largest accepted share of bad files.
    """

    def __init__(self, total: int, limit: float = 0.05) -> None:
        self._bad = torch.zeros(total, dtype=torch.bool)
        self._bad.share_memory_()  # type: ignore[no-untyped-call]
        self.total, self.limit = total, limit
        self._accepted = max(limit * total, min(ACCEPTED_UNREADABLE, total // 2))

    @property
    def count(self) -> int:
        """Number of bad files so far."""
        return int(self._bad.sum())

    def is_bad(self, number: int) -> bool:
        return bool(self._bad[number])

    def load(
        self, number: int, photo: Photo, min_side: int, load: Callable[[Photo], LoadedPhoto] = load_photo
    ) -> LoadedPhoto | None:
        """Load a photograph. If it is unreadable or too small, report it and return None.

        Args:
            number (int): its number among the files.
            photo (Photo): the photograph.
            min_side (int): smallest usable height and width.
            load (callable): function that loads it.

        Raises:
            DatasetError: Too many files are bad, or a shard cannot be used.
        """
        loaded, reason = load_usable(photo, min_side, load)
        if loaded is None:
            self.report(number, reason)
        return loaded

    def report(self, number: int, reason: str) -> None:
        """Mark a file as bad and log the reason.

        Raises:
            DatasetError: Too many files are bad.
        """
        if not self.is_bad(number):
            self._bad[number] = True
            logger.warning("left out: %s", reason)
        self.require_enough(f"; the last: {reason}")

    def require_enough(self, last: str = "") -> None:
        """Check that enough files are left.

        To be called for each bad file that is drawn: another process may have found the last good one to be bad, and
        drawing would never end.

        Raises:
            DatasetError: Too many files are bad; ``last`` is added to the message.
        """
        if self.count > self._accepted:
            share = f"{self.count} of {counted(self.total, 'image')}"
            raise DatasetError(f"{share} cannot be used, more than {self.limit:.0%}{last}")
