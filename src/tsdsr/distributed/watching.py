"""Room in a cluster, and what ends a run that has none or has lost the head, where Ray would wait or say nothing."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress

from tsdsr.distributed.cluster import ActorPool, require_answer
from tsdsr.errors import ClusterError

_WATCH_SECONDS = 3.0


def room_for(pool: ActorPool) -> int:
    """Return how many processes of a pool the machines of the cluster hold, if nothing else ran on them."""
    import ray

    total = 0
    for node in ray.nodes():
        if node["Alive"]:
            has = node["Resources"]
            fits = [int((has.get(name, 0.0) + 1e-9) / wanted) for name, wanted in _wanted(pool) if wanted]
            total += min(fits)
    return total


def require_room(pool: ActorPool, grows: bool, note: Callable[[str], None]) -> None:
    """Check that the cluster has room for a process, or will have.

    Args:
        pool (ActorPool): what a process takes.
        grows (bool): whether other machines may join the cluster; then there is only a note.
        note (callable): takes the note.

    Raises:
        ClusterError: it has none.
    """
    if room_for(pool):
        return
    text = f"no machine of the cluster has {_describe_wanted(pool)} for an actor"
    if not grows:
        raise ClusterError(f"{text}; give smaller --actor-cpus or --actor-gpus")
    note(f"{text}; waiting for one, up to {RoomWatch.patience / 60:.0f} minutes")


class HeadWatch:
    """Ends a run whose cluster has lost its head, in time to record what is done.

    Ray ends the whole process 60 seconds after the loss, and its words go to the standard error, which is hidden.
    """

    patience = 30.0
    """Seconds to wait for a head that starts again. The connection takes several more to close."""

    def __init__(self) -> None:
        import ray

        self._reachable = False  # from here; not through Ray Client, whose connection is another
        self._address: str = ray.get_runtime_context().gcs_address
        self._since: float | None = None
        with suppress(ClusterError):
            require_answer(self._address)
            self._reachable = True

    def answers(self) -> bool:
        """Return whether the head answers, or cannot be asked.

        Raises:
            ClusterError: it has not for too long.
        """
        if not self._reachable:
            return True
        try:
            require_answer(self._address, _WATCH_SECONDS)
        except ClusterError as error:
            self._since = time.monotonic() if self._since is None else self._since
            if time.monotonic() - self._since > self.patience:
                raise ClusterError(
                    f"the head of the cluster at {self._address} has not answered for {self.patience:.0f} seconds; run "
                    f"the command again, which continues"
                ) from error
            return False
        self._since = None
        return True


class RoomWatch:
    """Ends a run that waits for a machine that does not come, where Ray would wait for ever, or has lost the head.

    Args:
        pool (ActorPool): what a process takes.
    """

    patience = 600.0
    """Seconds to wait for a machine with room for one process."""

    def __init__(self, pool: ActorPool) -> None:
        self._pool, self._head = pool, HeadWatch()
        self._since: float | None = None

    def check(self) -> None:
        """Look whether there is room; call it every few seconds while nothing arrives.

        Raises:
            ClusterError: there has been none for too long, or no head.
        """
        if not self._head.answers():  # and Ray's calls would wait for it
            return
        with suppress(Exception):  # lost in this moment
            if room_for(self._pool):
                self._since = None
                return
        self._since = time.monotonic() if self._since is None else self._since
        if time.monotonic() - self._since > self.patience:
            raise ClusterError(
                f"no machine of the cluster has had {_describe_wanted(self._pool)} for an actor for "
                f"{self.patience / 60:.0f} minutes; add one and run the command again to continue"
            )


def _wanted(pool: ActorPool) -> list[tuple[str, float]]:
    return [("CPU", pool.cpus), ("GPU", pool.gpus)]


def _describe_wanted(pool: ActorPool) -> str:
    """Say what a process takes: "1 CPU and 0.5 GPU"."""
    return " and ".join(f"{wanted:g} {name}{'s' if wanted > 1 else ''}" for name, wanted in _wanted(pool) if wanted)
