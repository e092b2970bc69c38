"""One picture to restore, from its upload to the end of its result, and what clients see of it."""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from tsdsr.serving.options import MEDIA_TYPES, UpscaleOptions
from tsdsr.serving.problems import ProblemError

State = Literal["queued", "running", "done", "failed", "cancelled"]
FINAL = ("done", "failed", "cancelled")


@dataclass(frozen=True)
class Order:
    """An upload that has been checked: what is to be made of it.

    Attributes:
        name (str): file name of the upload, for messages.
        source (Path): the upload on the disk.
        width, height (int): its size in pixels, upright.
        format (str): its format, a key of :data:`~tsdsr.serving.options.MEDIA_TYPES`.
        bytes (int): size of the upload.
        options (UpscaleOptions): what the client asked for.
        result_name (str): file name of the result.
        result_format (str): its format.
        result_size (tuple): its width and height.
    """

    name: str
    source: Path
    width: int
    height: int
    format: str
    bytes: int
    options: UpscaleOptions
    result_name: str
    result_format: str
    result_size: tuple[int, int]

    @property
    def pixels(self) -> int:
        """Pixels of the result."""
        return self.result_size[0] * self.result_size[1]

    @property
    def pixels_held(self) -> int:
        """Pixels of input and result, which are in memory together."""
        return self.width * self.height + self.pixels

    @property
    def media_type(self) -> str:
        """Media type of the result."""
        return MEDIA_TYPES[self.result_format]


@dataclass(eq=False)
class Job:
    """A job of the queue, whose lock guards all changes.

    Attributes:
        order (Order): what is to be made.
        id (str): unguessable; whoever knows it may see and cancel the job.
        waits_for_client (bool): the time in the queue counts towards the timeout, because a client waits.
        state: see the interface.
        created, started, finished, expires (float | None): Unix times.
        deadline (float | None): time on the monotonic clock at which the job is given up.
        tiles_done (int), tiles_total (int | None): progress.
        result (Path | None): the finished file.
        result_bytes (int): its size.
        notices (tuple of str): what was converted or dropped.
        error (ProblemError | None): why there is no result.
        readers (int): answers that are being sent from its files.
        fetched (bool): the result was sent, or is being sent.
        forgotten (bool): the files are removed once there are no readers.
        ended (threading.Event): set in a final state.
    """

    order: Order
    id: str = field(default_factory=lambda: secrets.token_urlsafe(18))
    waits_for_client: bool = False
    state: State = "queued"
    created: float = field(default_factory=time.time)
    started: float | None = None
    finished: float | None = None
    expires: float | None = None
    deadline: float | None = None
    tiles_done: int = 0
    tiles_total: int | None = None
    result: Path | None = None
    result_bytes: int = 0
    notices: tuple[str, ...] = ()
    error: ProblemError | None = None
    readers: int = 0
    fetched: bool = False
    forgotten: bool = False
    ended: threading.Event = field(default_factory=threading.Event)
    listeners: list[Callable[[], None]] = field(default_factory=list)

    def rest(self, seconds_per_pixel: float) -> float:
        """Return the estimated seconds that it takes from now on, without its wait; 0 if nothing is known."""
        if self.state in FINAL:  # ends at its next tile
            return 0.0
        if self.state != "running" or not self.tiles_total:
            return self.order.pixels * seconds_per_pixel
        elapsed = time.time() - (self.started or time.time())
        return elapsed * (self.tiles_total - self.tiles_done) / max(1, self.tiles_done)

    def view(self, position: int | None, seconds_left: float | None) -> dict[str, Any]:
        """Return what clients see."""
        order, size = self.order, self.order.result_size
        output = {
            "name": order.result_name,
            "width": size[0],
            "height": size[1],
            "format": order.result_format,
            "media_type": order.media_type,
            "bytes": self.result_bytes,
        }
        return {
            "id": self.id,
            "name": order.name,
            "state": self.state,
            "position": position,
            "tiles_done": self.tiles_done,
            "tiles_total": self.tiles_total,
            "seconds_left": seconds_left,
            "created": self.created,
            "started": self.started,
            "finished": self.finished,
            "expires": self.expires,
            "input": {"width": order.width, "height": order.height, "format": order.format, "bytes": order.bytes},
            "output": output if self.result is not None else None,
            "notices": list(self.notices),
            "error": None if self.error is None else self.error.content(),
            "options": order.options.model_dump(mode="json"),
        }
