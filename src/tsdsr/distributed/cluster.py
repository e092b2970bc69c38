"""A connection to a Ray cluster: opened, quiet, closed again. And what the processes of a run take of it."""

from __future__ import annotations

import io
import logging
import math
import os
import re
import socket
import sys
import threading
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from types import ModuleType
from typing import Any

from tsdsr.distributed.waiting_signals import signals_wait
from tsdsr.errors import ClusterError, InvalidInputError, MissingDependencyError, install_extra
from tsdsr.pipeline.options import is_count

LOCAL = "local"
"""Address of a cluster on this machine that lives as long as the run."""

_ANSWER_SECONDS = 10.0
_THREAD_SECONDS = 5.0

_ENVIRONMENT = {
    # Nothing about the run goes to Ray's makers, or is asked of a monitor.
    "RAY_USAGE_STATS_ENABLED": "0",
    # Ray Data would read a plan to its end at once, as rows without pixels never fill the object store.
    "RAY_DATA_DOWNSTREAM_CAPACITY_OBJECT_STORE_BUDGET_UTIL_THRESHOLD": "0",
}
"""Settings of Ray that hold unless the user has set them. The second is read when Ray Data is imported."""


@dataclass(frozen=True)
class ActorPool:
    """The processes of a run: how many, and what each takes of the cluster.

    Attributes:
        least, most (int, int | None): number of processes; None takes as many as the cluster has room for.
        cpus, gpus (float): CPUs and GPUs of each; GPUs may be shared, such as 0.25.
        first (int | None): how many start at once; default: ``least``.

    Raises:
        InvalidInputError: a value is out of range.
    """

    least: int = 1
    most: int | None = None
    cpus: float = 1.0
    gpus: float = 0.0
    first: int | None = None

    def __post_init__(self) -> None:
        if not is_count(self.least, 1) or not (self.most is None or is_count(self.most, self.least)):
            got = f"{self.least!r}" if self.least == self.most else f"{self.least!r}, {self.most!r}"
            raise InvalidInputError(
                f"the number of actors must be at least 1, and the maximum not below the minimum; got {got}"
            )
        if not (0 <= self.cpus < math.inf and 0 <= self.gpus < math.inf) or self.cpus + self.gpus == 0:
            raise InvalidInputError(
                f"an actor needs CPUs or GPUs, and neither number can be negative; got {self.cpus!r} CPUs and "
                f"{self.gpus!r} GPUs"
            )
        if self.gpus > 1 and self.gpus != int(self.gpus):
            raise InvalidInputError(f"an actor takes a fraction of a GPU or a whole number of GPUs, got {self.gpus!r}")

    @property
    def threads(self) -> int:
        """CPU threads of one process."""
        return max(1, int(self.cpus))


def require_ray() -> None:
    """Check that the packages of the extra ``ray`` are installed.

    Raises:
        MissingDependencyError: one of them is not.
    """
    for package in ("ray", "pyarrow", "fsspec", "tenacity"):
        if find_spec(package) is None:
            raise MissingDependencyError(f"restoring on a cluster needs {package}: {install_extra('ray')}")


@contextmanager
def connected(address: str | None) -> Iterator[bool]:
    """Connect to a cluster for a block of code, unless this process is connected already.

    Ray's messages are not shown, it does not take over signals, and it does not report its use unless
    ``RAY_USAGE_STATS_ENABLED`` is set.

    Args:
        address (str | None): HOST:PORT of a cluster's head, "auto" for one that runs on this machine, or "local", which
            starts one on this machine for the block; None takes ``RAY_ADDRESS``, which jobs have, or else "local".

    Yields:
        bool: whether the cluster was started here, so that no other machine will join it.

    Raises:
        ClusterError: there is no cluster at this address, or it has other versions of Python or Ray.
    """
    import ray

    if ray.is_initialized():
        yield False
        return
    address = address or os.environ.get("RAY_ADDRESS") or LOCAL
    with _native_messages_hidden(), warnings.catch_warnings(), _environment(), _as_a_guest():
        warnings.filterwarnings("ignore", module=r"ray\.")  # about pools larger than the work
        with signals_wait():
            _connect(ray, address)
        yield address == LOCAL


def _connect(ray: Any, address: str) -> None:
    where = "on this machine" if address in ("auto", LOCAL) else f"at {address}"
    require_answer(address)
    options = {"include_dashboard": False} if address == LOCAL else {}
    try:
        ray.init(address, log_to_driver=False, logging_level=logging.CRITICAL, **options)
    except Exception as error:  # ConnectionError, ValueError, RuntimeError, and more
        text = " ".join(str(error).split())[:200]
        if "ersion mismatch" in text:
            raise ClusterError(
                f"the cluster {where} has other versions than this machine ({text}); install the same Python and Ray "
                f"on both"
            ) from error
        if address == LOCAL:
            raise ClusterError(
                f"no Ray cluster could be started on this machine ({text}); run the command again when the machine has "
                f"less to do"
            ) from error
        raise ClusterError(
            f"no Ray cluster can be used {where} ({text}); start one with 'ray start --head', or leave out the address"
        ) from error


def require_answer(address: str, seconds: float = _ANSWER_SECONDS) -> None:
    """Check that something listens at HOST:PORT: Ray would try for minutes.

    Raises:
        ClusterError: nothing does.
    """
    found = re.fullmatch(r"(?:\w+://)?\[?([^\[\]/]+?)\]?:(\d+)", address)
    if found is None:
        return
    try:
        socket.create_connection((found[1], int(found[2])), seconds).close()
    except (OSError, OverflowError) as error:
        raise ClusterError(
            f"no Ray cluster answers at {address} ({getattr(error, 'strerror', None) or error}); give the address that "
            f"'ray status' or 'ray start --head' names"
        ) from error


@contextmanager
def _changed(module: ModuleType, name: str, value: object) -> Iterator[None]:
    """Give a global of a module another value for a block of code."""
    before = getattr(module, name)
    setattr(module, name, value)
    try:
        yield
    finally:
        setattr(module, name, before)


@contextmanager
def _environment() -> Iterator[None]:
    added = [name for name in _ENVIRONMENT if name not in os.environ]
    os.environ.update({name: _ENVIRONMENT[name] for name in added})
    try:
        yield
    finally:
        for name in added:
            os.environ.pop(name, None)


@contextmanager
def _as_a_guest() -> Iterator[None]:
    """Keep Ray's reports of tasks and processes from the terminal, which its log files have, and SIGTERM from Ray.

    Threads of Ray Data may outlive the connection: they must not start another cluster, as Ray does by default with any
    call. Where one still lives, calls do not connect by themselves any more. There is no public way to any of these.
    """
    import_module("ray.data")  # which sets up its logger
    logger, handlers = logging.getLogger("ray"), logging.getLogger("ray.data").handlers
    terminal = [each for each in handlers if type(each).__module__.startswith("ray.") and hasattr(each, "stream")]
    levels: dict[logging.Logger | logging.Handler, int] = {logger: logger.level}
    levels.update((each, each.level) for each in terminal)
    for each in levels:
        each.setLevel(logging.CRITICAL)
    before = set(threading.enumerate())
    worker, hook = import_module("ray._private.worker"), import_module("ray._private.auto_init_hook")
    utils = import_module("ray._private.utils")  # whose handler ends this process with another status, unsaid
    connects, hook.enable_auto_connect = hook.enable_auto_connect, False  # type: ignore[attr-defined]
    with (
        _changed(worker, "_worker_logs_enabled", False),
        _changed(utils, "set_sigterm_handler", lambda _: None),
    ):
        try:
            yield
        finally:
            with _changed(threading, "excepthook", lambda _: None):  # they lose their connection
                import_module("ray").shutdown()
                limit, own = time.monotonic() + _THREAD_SECONDS, set(threading.enumerate()) - before
                for thread in own:
                    thread.join(max(0.0, limit - time.monotonic()))
            if not any(thread.is_alive() for thread in own):
                hook.enable_auto_connect = connects  # type: ignore[attr-defined]
            for each, level in levels.items():
                each.setLevel(level)


@contextmanager
def _native_messages_hidden() -> Iterator[None]:
    """Keep what Ray's C++ parts write to the standard error from the terminal. Python's own messages still appear."""
    try:
        kept = os.dup(2)
    except OSError:  # it is closed
        yield
        return
    python = sys.stderr
    shown = io.TextIOWrapper(os.fdopen(os.dup(kept), "wb"), "utf-8", "backslashreplace", line_buffering=True)
    null = os.open(os.devnull, os.O_WRONLY)
    try:
        with suppress(OSError, ValueError):
            if python.fileno() == 2:
                sys.stderr = shown
        os.dup2(null, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(null)
        sys.stderr = python
        shown.close()
