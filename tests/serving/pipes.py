"""A pipeline for tests of the server: enlarges by repetition, and stops at each tile if it is told to."""

from __future__ import annotations

import threading
import time
from typing import Any

import numpy as np

from tsdsr.arrays import HostDevice
from tsdsr.models.zoo import MINI
from tsdsr.pipeline.options import RestoreOptions
from tsdsr.pipeline.sr_pipeline import SRPipeline


class RepeatingPipe(SRPipeline):
    """Every result has the same number of tiles.

    Args:
        tiles (int): tiles of a result.
        seconds (float): time that each takes.
    """

    engine = "onnx"
    spec = MINI
    array_device = HostDevice()
    dtype_bytes = 4

    def __init__(self, tiles: int = 2, seconds: float = 0.0) -> None:
        self.tiles, self.seconds, self.finished_tiles = tiles, seconds, 0
        self._may_go_on, self._at_work = threading.Event(), threading.Event()
        self._may_go_on.set()
        self._single_tiles = threading.Semaphore(0)

    def hold(self) -> None:
        """Stop before the next tile."""
        self._may_go_on.clear()
        self._at_work.clear()

    def release(self) -> None:
        """Go on."""
        self._may_go_on.set()

    def release_tile(self) -> None:
        """Go on with one tile, and stop before the one after it."""
        self._single_tiles.release()

    def _wait_to_go_on(self) -> None:
        deadline = time.monotonic() + 60  # longer than a test waits for a page meanwhile
        while not self._may_go_on.is_set() and not self._single_tiles.acquire(timeout=0.01):
            assert time.monotonic() < deadline

    def wait_for_work(self) -> None:
        """Wait until a picture is in work."""
        assert self._at_work.wait(20)

    def upscale_pixels(
        self, pixels: np.ndarray, scale: float = 4.0, *, generator: Any = None, on_tile: Any = None, **options: Any
    ) -> np.ndarray:
        chosen = RestoreOptions(scale, **options)
        height, width = pixels.shape[:2]
        rows, columns = chosen.size(height, width)
        for done in range(1, self.tiles + 1):
            self._at_work.set()
            self._wait_to_go_on()
            time.sleep(self.seconds)
            self.finished_tiles += 1
            on_tile(done, self.tiles)
        return pixels[np.arange(rows) * height // rows][:, np.arange(columns) * width // columns]

    def encode(self, x: Any, noise: Any = None) -> Any:
        raise AssertionError("the picture is repeated")

    denoise = decode = encode
