"""Run a part of a test without the superuser's right to read and write everything."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

_NOBODY = 65534


@contextmanager
def unprivileged(folder: Path, *readable: Path) -> Iterator[None]:
    """Drop the superuser's rights within the block; an ordinary user's are kept.

    Args:
        folder (Path): becomes writable within the block; it and the folders above it stay accessible.
        readable (Path): further folders that become accessible.
    """
    if not hasattr(os, "geteuid"):
        pytest.skip("needs the permissions of POSIX")
    if os.geteuid() != 0:
        yield
        return
    for path in {*folder.parents, *readable, *(above for other in readable for above in other.parents)}:
        if not path.stat().st_mode & 0o001:
            path.chmod(path.stat().st_mode | 0o711)
    owner = folder.stat().st_uid
    os.chown(folder, _NOBODY, -1)
    os.seteuid(_NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)
        os.chown(folder, owner, -1)
