"""Encoded image files, on disk or in memory."""

from __future__ import annotations

from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import BinaryIO


@dataclass(frozen=True)
class EncodedImage:
    """An image file before decoding.

    Attributes:
        name (str): name used in messages.
        content (Path | bytes): path of the file, or its bytes.
    """

    name: str
    content: Path | bytes

    @classmethod
    def at(cls, path: Path) -> EncodedImage:
        """Wrap a file on disk."""
        return cls(str(path), path)

    def source(self) -> Path | BytesIO:
        """Return the object that Pillow and tifffile open. A path stays a path, so Pillow can memory-map the file."""
        return self.content if isinstance(self.content, Path) else BytesIO(self.content)

    def stream(self) -> BinaryIO:
        """Open a binary stream at the start of the file. The caller closes it."""
        return self.content.open("rb") if isinstance(self.content, Path) else BytesIO(self.content)

    def head(self, count: int) -> bytes:
        """Return the first ``count`` bytes."""
        with self.stream() as stream:
            return stream.read(count)
