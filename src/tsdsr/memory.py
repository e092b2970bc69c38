"""Free memory of the host: RAM within the limits of this process and of its control groups."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path

_sharers: ContextVar[int] = ContextVar("sharers", default=1)


@contextmanager
def shared_memory(threads: int) -> Iterator[None]:
    """Let the calling thread plan within the block with its share of what is free: others plan at the same time.

    Args:
        threads (int): how many threads plan, this one included.
    """
    token = _sharers.set(threads)
    try:
        yield
    finally:
        _sharers.reset(token)


def free_ram() -> int:
    """Return the bytes of RAM that the calling thread may still use, see :func:`shared_memory`."""
    import psutil  # imported late: takes 10 ms

    available: int = psutil.virtual_memory().available
    limits = (control_group_memory(), address_space_left())
    return min(available, *(limit for limit in limits if limit is not None)) // _sharers.get()


def address_space_left() -> int | None:
    """Return the bytes this process may still map (``ulimit -v``); None without a limit, and on Windows."""
    try:
        import resource  # POSIX only
    except ImportError:
        return None
    limit = resource.getrlimit(resource.RLIMIT_AS)[0]
    if limit == resource.RLIM_INFINITY:
        return None
    import psutil

    return max(0, limit - int(psutil.Process().memory_info().vms))


def control_group_memory(root: Path = Path("/")) -> int | None:
    """Return the bytes left below the tightest memory limit of the control groups (v1 or v2); None without a limit.

    The control groups are those of this process. Page cache that the kernel can reclaim counts as free.

    Args:
        root (Path): the root of the file system.
    """
    try:
        lines = (root / "proc/self/cgroup").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return None
    left: list[int] = []
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers and "memory" not in controllers.split(","):
            continue
        base = root / "sys/fs/cgroup" / ("memory" if controllers else "")
        names = (
            ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
            if controllers
            else ("memory.max", "memory.current", "inactive_file")
        )
        group = base / path.lstrip("/")
        for folder in (group, *group.parents):
            if (found := _left_in(folder, *names)) is not None:
                left.append(found)
            if folder == base:
                break
    return min(left, default=None)


def _left_in(folder: Path, limit: str, usage: str, reclaimable: str) -> int | None:
    try:
        most, used = (int((folder / name).read_text(encoding="ascii")) for name in (limit, usage))
        stat = dict(line.split() for line in (folder / "memory.stat").read_text(encoding="ascii").splitlines())
    except (OSError, ValueError):  # no such group, or "max"
        return None
    return max(0, most - used + int(stat.get(reclaimable, 0)))
