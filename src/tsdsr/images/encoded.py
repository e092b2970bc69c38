"""Where the bytes of an image file come from: the disk, or memory."""

from __future__ import annotations

from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import BinaryIO


@dataclass(frozen=True)
class EncodedImage:
    """An image file that is not decoded yet.

    Attributes:
        name (str): for messages.
        content (Path | bytes): the file, or its bytes.
    """

    name: str
    content: Path | bytes

    @classmethod
    def at(cls, path: Path) -> EncodedImage:
        """A file on disk."""
        return cls(str(path), path)

    def source(self) -> Path | BytesIO:
        """What Pillow and tifffile open. A path stays a path, so that Pillow can map the file into memory."""
        return self.content if isinstance(self.content, Path) else BytesIO(self.content)

    def stream(self) -> BinaryIO:
        """The bytes from the first one on; to be closed by the caller."""
        return self.content.open("rb") if isinstance(self.content, Path) else BytesIO(self.content)

    def head(self, count: int) -> bytes:
        """The first bytes."""
        with self.stream() as stream:
            return stream.read(count)
