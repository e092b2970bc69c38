"""A file for encoders to write to, whose content is compared afterwards with what they wrote."""

from __future__ import annotations

import zlib
from pathlib import Path
from types import TracebackType

_BLOCK = 1 << 20


class CheckedFile:
    """Binary file opened for writing. It records the checksum of each run of bytes, so memory stays bounded.

    It has no ``fileno``. Pillow writes JPEG and BMP to a file descriptor from C, where it takes a short write, which
    is how a disk becomes full, for a complete one. Without a descriptor it writes through Python, which raises.

    Args:
        path (Path): the file; it is created, or emptied.
    """

    def __init__(self, path: Path) -> None:
        self._file = path.open("wb")
        self._runs: list[tuple[int, int, int]] = []  # (start, stop, CRC-32)

    def __enter__(self) -> CheckedFile:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._file.close()

    def write(self, data: bytes) -> int:
        """Write bytes at the current position. Each position is written once."""
        start, view = self._file.tell(), memoryview(data).cast("B")
        self._file.write(view)
        last = self._runs[-1] if self._runs else None
        if last is not None and last[1] == start:
            self._runs[-1] = (last[0], start + len(view), zlib.crc32(view, last[2]))
        else:
            self._runs.append((start, start + len(view), zlib.crc32(view)))
        return len(view)

    def seek(self, offset: int, whence: int = 0) -> int:
        """Move to a position."""
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        """Return the current position."""
        return self._file.tell()

    def flush(self) -> None:
        """Pass what is buffered to the operating system."""
        self._file.flush()

    def verify(self, path: Path) -> None:
        """Compare a file with what was written.

        Raises:
            OSError: The file has another size or other bytes.
        """
        size, expected = path.stat().st_size, max((stop for _, stop, _ in self._runs), default=0)
        if size != expected:
            raise OSError(f"{size} bytes are on the disk, and {expected} were written")
        with path.open("rb") as file:
            for start, stop, checksum in self._runs:
                file.seek(start)
                found = 0
                for at in range(start, stop, _BLOCK):
                    found = zlib.crc32(file.read(min(_BLOCK, stop - at)), found)
                if found != checksum:
                    raise OSError("the bytes on the disk differ from those that were written")
