"""Attempts at the batches of a run, counted outside the processes that make them, so that they survive a killed one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

StatusRow = Mapping[str, Any]
"""A row of :data:`~tsdsr.distributed.records.STATUS`."""


@dataclass(frozen=True)
class Attempt:
    """What is known of a batch when an attempt at it begins.

    Attributes:
        killed (int): earlier attempts that began and never ended. If there are any, each file is to be begun and ended
            in the ledger.
        ended (mapping): number of a file in the batch → its status, from the earlier attempts that told.
        lost (frozenset of int): files that were begun and never ended: the process died twice, first somewhere in the
            batch, then in this file.
    """

    killed: int = 0
    ended: Mapping[int, StatusRow] = field(default_factory=dict)
    lost: frozenset[int] = frozenset()


class Ledger:
    """Counts the attempts of all processes of a run. Keeps only the batches in work.

    Ray runs it as an actor of its own, see :class:`RayLedger`. It is a plain class, so it runs without Ray too.
    """

    def __init__(self) -> None:
        self._attempts: dict[str, int] = {}
        self._files: dict[str, dict[int, StatusRow | None]] = {}
        self._loads: dict[str, int] = {}

    def begin_load(self, process: str) -> int:
        """Note that a process begins to load its model; return how often it has begun without an end, with this one."""
        self._loads[process] = self._loads.get(process, 0) + 1
        return self._loads[process]

    def end_load(self, process: str) -> None:
        """Note that the model of a process is loaded."""
        self._loads.pop(process, None)

    def begin(self, batch: str, ended: str | None = None) -> Attempt:
        """Note that an attempt at a batch begins.

        Args:
            batch (str): its identity, the same in every attempt.
            ended (str | None): the batch that the same process made before: it has ended. So a batch costs one call.
        """
        if ended is not None:
            self._attempts.pop(ended, None)
            self._files.pop(ended, None)
        killed = self._attempts.get(batch, 0)
        self._attempts[batch] = killed + 1
        files = self._files.get(batch, {})
        return Attempt(
            killed,
            {number: row for number, row in files.items() if row is not None},
            frozenset(number for number, row in files.items() if row is None),
        )

    def begin_file(self, batch: str, number: int) -> None:
        """Note that a file of a batch begins."""
        self._files.setdefault(batch, {})[number] = None

    def end_file(self, batch: str, number: int, status: StatusRow) -> None:
        """Note that a file of a batch ended, with its status."""
        self._files.setdefault(batch, {})[number] = status


class LedgerCalls(Protocol):
    """What :class:`~tsdsr.distributed.restoring.RestoreBatch` calls: a :class:`Ledger`, here or in another process."""

    def begin_load(self, process: str) -> int: ...
    def end_load(self, process: str) -> None: ...
    def begin(self, batch: str, ended: str | None = None) -> Attempt: ...
    def begin_file(self, batch: str, number: int) -> None: ...
    def end_file(self, batch: str, number: int, status: StatusRow) -> None: ...


class RayLedger:
    """A :class:`Ledger` in a process on the driver's machine: it lives as long as the run does.

    The object travels to the other processes, which call the same ledger.
    """

    def __init__(self) -> None:
        """Start the process; it needs no CPU of the cluster."""
        import ray
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=True)
        # If it dies it starts again, empty: a file that kills its process then costs another restart.
        remote = ray.remote(num_cpus=0, max_restarts=-1, max_task_retries=-1, scheduling_strategy=here)(Ledger)
        self._actor = remote.remote()

    def _call(self, method: str, *arguments: object) -> Any:
        import ray

        return ray.get(getattr(self._actor, method).remote(*arguments))

    def begin_load(self, process: str) -> int:
        """See :meth:`Ledger.begin_load`."""
        count: int = self._call("begin_load", process)
        return count

    def end_load(self, process: str) -> None:
        """See :meth:`Ledger.end_load`."""
        self._call("end_load", process)

    def begin(self, batch: str, ended: str | None = None) -> Attempt:
        """See :meth:`Ledger.begin`."""
        attempt: Attempt = self._call("begin", batch, ended)
        return attempt

    def begin_file(self, batch: str, number: int) -> None:
        """See :meth:`Ledger.begin_file`."""
        self._call("begin_file", batch, number)

    def end_file(self, batch: str, number: int, status: StatusRow) -> None:
        """See :meth:`Ledger.end_file`."""
        self._call("end_file", batch, number, status)
