"""Functions in several processes that form a process group, on the CPU (gloo) unless told otherwise."""

from __future__ import annotations

import multiprocessing
import os
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(["tests.process_group_imports"])  # once for all groups, which takes seconds


def in_processes(
    count: int,
    folder: Path,
    function: Callable[..., None],
    *arguments: Any,
    timeout: float = 120,
    backend: str = "gloo",
) -> None:
    """Call a function in several processes of one group, after ``torch.distributed`` has been initialised.

    Args:
        count (int): number of processes.
        folder (Path): for the group's store and for tracebacks; one for each call.
        function (callable): of a module, not nested.
        arguments: its arguments.
        timeout (float): most seconds.
        backend (str): "gloo", or "nccl" with a GPU for each process.
    """
    folder.mkdir()
    processes = [
        _CONTEXT.Process(target=_member, args=(number, count, folder, function, arguments, backend))
        for number in range(count)
    ]
    try:
        for process in processes:
            process.start()
        for process in processes:
            process.join(timeout)
        tracebacks = [path.read_text() for path in sorted(folder.glob("error-*"))]
        assert not tracebacks, "\n".join(tracebacks)
        assert [process.exitcode for process in processes] == [0] * count
    finally:
        for process in processes:
            process.kill()
            process.join(10)


def _member(
    number: int, count: int, folder: Path, function: Callable[..., None], arguments: tuple[Any, ...], backend: str
) -> None:
    import torch

    place = {"RANK": number, "LOCAL_RANK": number, "WORLD_SIZE": count, "LOCAL_WORLD_SIZE": count}
    os.environ |= {name: str(value) for name, value in place.items()} | {"MASTER_ADDR": "localhost", "MASTER_PORT": "0"}
    torch.set_num_threads(1)
    try:
        store = f"file://{folder.resolve() / 'store'}"
        torch.distributed.init_process_group(backend, init_method=store, rank=number, world_size=count)
        function(*arguments)
        if torch.distributed.is_initialized():
            torch.distributed.destroy_process_group()
    except BaseException:
        (folder / f"error-{number}").write_text(traceback.format_exc())
        raise
