"""Recognise and report a lack of memory. Needs no torch, so that a failed import of torch can be explained too."""

from __future__ import annotations

import errno
import re
from collections.abc import Iterator
from contextlib import contextmanager

from tsdsr.errors import OutOfMemoryError, TSDSRError

_MESSAGES = re.compile(
    r"out of memory|can(?:no|')t allocate memory|not enough memory|failed to allocate|bad[_ ]alloc|alloc_failed"
    r"|unable to mmap|failed to map segment|can't start new thread|paging file is too small"
    r"|could not (?:create|execute) a (?:primitive|memory)(?! desc)",  # oneDNN gives no reason
    re.IGNORECASE,
)
"""Messages of PyTorch, CUDA, MPS, oneDNN, ONNX Runtime, OpenVINO, C++, Windows and the dynamic linker."""


def mentions_lack_of_memory(message: str) -> bool:
    """Whether a message of a library says that memory ran out."""
    return _MESSAGES.search(message) is not None


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an exception means that memory ran out.

    Python raises MemoryError, PyTorch a subclass of RuntimeError or a plain one, the operating system an OSError, and
    the dynamic linker an ImportError.
    """
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    if isinstance(error, OSError):
        return error.errno == errno.ENOMEM
    if not isinstance(error, RuntimeError | ImportError):
        return False
    cause = error.__cause__  # diffusers and transformers report failed imports without the reason
    return mentions_lack_of_memory(str(error)) or (cause is not None and is_out_of_memory(cause))


def without_frames(error: BaseException) -> BaseException:
    """Remove the tracebacks of an exception and its causes, because their frames keep tensors alive."""
    link: BaseException | None = error
    while link is not None:
        link.__traceback__ = None
        link = link.__cause__ or link.__context__
    return error


@contextmanager
def memory_reported(message: str) -> Iterator[None]:
    """Raise a lack of memory within the block as OutOfMemoryError.

    Args:
        message (str): what could not be done, and the remedy.

    Raises:
        OutOfMemoryError: memory ran out.
    """
    try:
        yield
    except Exception as error:  # libraries have no common class for this
        if isinstance(error, TSDSRError) or not is_out_of_memory(error):
            raise
        raise OutOfMemoryError(message) from without_frames(error)
