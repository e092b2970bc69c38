"""Temporary files whose space is reserved before they are used.

A file that is only extended takes no space. Writing into a mapping of such a file kills the process (SIGBUS) once the
disk is full.
"""

from __future__ import annotations

import errno
import os
import tempfile
from contextlib import suppress
from typing import IO

from tsdsr.errors import OutOfMemoryError
from tsdsr.wording import readable_size

_ZEROS = bytes(2**20)
_NOT_SUPPORTED = (errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL)


def reserved_file(size: int) -> IO[bytes]:
    """Open a temporary file with ``size`` bytes of reserved space, positioned at its start.

    The file has no name on POSIX systems, and is deleted when it is closed.

    Raises:
        OutOfMemoryError: the folder of temporary files has too little space or cannot be written.
    """
    try:
        file = tempfile.TemporaryFile()  # noqa: SIM115 - closed by the caller
        try:
            _reserve(file, size)
        except BaseException:
            file.close()
            raise
    except OSError as error:
        raise OutOfMemoryError(
            f"{_folder()}: the folder of temporary files cannot take the {readable_size(size)} that this result needs "
            f"({error.strerror or error}); set TMPDIR to a folder with more space, or choose a smaller scale"
        ) from error
    return file


def _reserve(file: IO[bytes], size: int) -> None:
    if hasattr(os, "posix_fallocate"):
        try:
            os.posix_fallocate(file.fileno(), 0, size)
            return
        except OSError as error:
            if error.errno not in _NOT_SUPPORTED:
                raise
    for start in range(0, size, len(_ZEROS)):
        file.write(_ZEROS[: size - start])
    file.flush()
    file.seek(0)


def _folder() -> str:
    with suppress(OSError):  # raised if no folder can be written
        return tempfile.gettempdir()
    return os.environ.get("TMPDIR", "TMPDIR")
