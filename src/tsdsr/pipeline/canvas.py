"""Write restored rows into the result: align colours as rows arrive, and round once."""

from __future__ import annotations

import io
import logging
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from typing import IO

import numpy as np
from numpy.typing import DTypeLike

from tsdsr.arrays import Array, ArrayDevice, HostDevice, dtype_name
from tsdsr.measuring import stage
from tsdsr.memory import free_ram
from tsdsr.pipeline.color import WAVELET_RADIUS, Moments, adain, wavelet_color_fix
from tsdsr.pipeline.options import ColorFix
from tsdsr.pipeline.plain_areas import PlainAreas
from tsdsr.pipeline.temporary import reserved_file
from tsdsr.pixels import from_unit

Source = Callable[[range, range], Array]
"""Maps rows and columns of the enlarged input to (B, 3, rows, columns), float32 in [0, 1]."""

logger = logging.getLogger(__name__)

CANVAS_SHARE = 0.5
"""A result that takes more than this share of free memory is kept on disk."""
_BLOCK = 512
_SPOOL_BYTES = 64 * 2**20


class CanvasWriter(ABC):
    """Fill the canvas with restored rows, from top to bottom.

    Works on blocks of a few hundred pixels, which fit into the processor's cache.

    Args:
        canvas (array): the result (B, C, H, W): uint8, uint16 or floating point; C = 1 takes the mean of the channels.
        source (callable): the enlarged input.
        areas (PlainAreas): where the result follows the input. The plain writer does not use it.
        device (ArrayDevice): where the rows lie and are aligned.
    """

    def __init__(self, canvas: Array, source: Source, areas: PlainAreas, device: ArrayDevice) -> None:
        self.canvas, self.source, self.areas, self.device = canvas, source, areas, device
        self.height, self.width = int(canvas.shape[-2]), int(canvas.shape[-1])

    @abstractmethod
    def push(self, rows: Array) -> None:
        """Add the next rows (B, 3, n, W), float32, nominally in [0, 1]. They are neither kept nor changed."""

    def close(self) -> None:
        """Finish after the last row; the canvas is complete when this returns."""
        self.device.flush()

    def write(self, rows: range, cols: range, values: Array) -> None:
        """Round values (B, 3, rows, columns) into the canvas."""
        with stage("store"):
            if self.canvas.shape[1] == 1:
                values = self.device.xp.mean(values, axis=1, keepdims=True)
            place = self.canvas[..., rows.start : rows.stop, cols.start : cols.stop]
            self.device.store(from_unit(values, dtype_name(self.canvas)), place)


class PlainCanvasWriter(CanvasWriter):
    """Writer of what the model produced, without any alignment."""

    _done = 0

    def push(self, rows: Array) -> None:
        for y, x in _blocks(range(rows.shape[-2]), range(self.width)):
            values = rows[..., y.start : y.stop, x.start : x.stop]
            self.write(range(self._done + y.start, self._done + y.stop), x, values)
        self._done += rows.shape[-2]


class WaveletCanvasWriter(CanvasWriter):
    """Writer with :func:`wavelet_color_fix`. Its radius is 31 pixels, so rows wait for the rows below them.

    The result equals the fix of the whole image, because each block includes its neighbourhood up to the image's edges.
    """

    def __init__(self, canvas: Array, source: Source, areas: PlainAreas, device: ArrayDevice) -> None:
        super().__init__(canvas, source, areas, device)
        self._tail: Array | None = None  # rows still needed, starting at _top
        self._top = self._done = 0

    def push(self, rows: Array) -> None:
        held = 0 if self._tail is None else self._tail.shape[-2]
        bottom = self._top + held + rows.shape[-2]
        ready = self.height if bottom == self.height else max(self._done, bottom - WAVELET_RADIUS)
        for y, x in _blocks(range(self._done, ready), range(self.width)):
            near_y, near_x = _widened(y, bottom), _widened(x, self.width)
            values = self._window(rows, held, near_y, near_x)
            source = self.source(near_y, near_x)
            inner = (..., _within(y, near_y), _within(x, near_x))
            fixed = wavelet_color_fix(values, source)[inner]
            self.write(y, x, self.areas.follow(fixed, source[inner], y, x))
        keep = max(0, ready - WAVELET_RADIUS)
        tail = self._window(rows, held, range(keep, bottom), range(self.width))
        self._tail = self.device.xp.asarray(tail, copy=True)  # a view would keep the whole band
        self._top, self._done = keep, ready

    def _window(self, rows: Array, held: int, y: range, x: range) -> Array:
        """Return a window of the held and the new rows."""
        top, stop = y.start - self._top, y.stop - self._top
        parts = []
        if self._tail is not None and top < held:
            parts.append(self._tail[..., top : min(stop, held), x.start : x.stop])
        if stop > held:
            parts.append(rows[..., max(0, top - held) : stop - held, x.start : x.stop])
        return parts[0] if len(parts) == 1 else self.device.xp.concat(parts, axis=-2)


class AdainCanvasWriter(CanvasWriter):
    """Writer with :func:`adain`, which needs whole-image statistics: rows wait unrounded in a temporary file.

    Up to 64 MiB stay in memory.

    Raises:
        OutOfMemoryError: there is no space for the temporary file.
    """

    def __init__(self, canvas: Array, source: Source, areas: PlainAreas, device: ArrayDevice) -> None:
        super().__init__(canvas, source, areas, device)
        self._own, self._wanted = Moments(), Moments()
        size = 4 * 3 * len(canvas) * self.height * self.width
        self._spool: IO[bytes] = io.BytesIO() if size <= _SPOOL_BYTES else reserved_file(size)
        self._pieces: list[tuple[range, range]] = []
        self._done = 0

    def push(self, rows: Array) -> None:
        for y, x in _blocks(range(self._done, self._done + rows.shape[-2]), range(self.width)):
            values = rows[..., y.start - self._done : y.stop - self._done, x.start : x.stop]
            self._own.add(values)
            self._wanted.add(self.source(y, x))
            self._spool.write(np.ascontiguousarray(HostDevice().upload(values)).data)
            self._pieces.append((y, x))
        self._done += rows.shape[-2]

    def close(self) -> None:
        self._spool.seek(0)
        samples = len(self.canvas)
        for y, x in self._pieces:
            shape = (samples, 3, len(y), len(x))
            values = np.frombuffer(self._spool.read(4 * math.prod(shape)), np.float32).reshape(shape)
            fixed = adain(self.device.upload(values), self._own, self._wanted)
            self.write(y, x, self.areas.follow(fixed, self.source(y, x), y, x))
        self._spool.close()
        super().close()


CANVAS_WRITERS: dict[ColorFix, type[CanvasWriter]] = {
    "wavelet": WaveletCanvasWriter,
    "adain": AdainCanvasWriter,
    "none": PlainCanvasWriter,
}


def _blocks(rows: range, cols: range) -> Iterator[tuple[range, range]]:
    for y in range(rows.start, rows.stop, _BLOCK):
        for x in range(cols.start, cols.stop, _BLOCK):
            yield range(y, min(y + _BLOCK, rows.stop)), range(x, min(x + _BLOCK, cols.stop))


def _widened(part: range, length: int) -> range:
    return range(max(0, part.start - WAVELET_RADIUS), min(length, part.stop + WAVELET_RADIUS))


def _within(part: range, whole: range) -> slice:
    return slice(part.start - whole.start, part.stop - whole.start)


def make_canvas(shape: tuple[int, ...], dtype: DTypeLike) -> np.ndarray:
    """Allocate an array for the result: in RAM or, if it would take half of the free memory, in a temporary file.

    The file has no name (on POSIX systems) and is deleted with the array.

    Raises:
        OutOfMemoryError: there is no space for the temporary file.
    """
    size = math.prod(shape) * np.dtype(dtype).itemsize
    if size <= CANVAS_SHARE * free_ram():
        return np.empty(shape, dtype)
    logger.info("the result takes %.1f GB and is kept in a temporary file", size / 1e9)
    with reserved_file(size) as file:  # the mapping outlives the open file
        return np.memmap(file, dtype=dtype, mode="w+", shape=shape)
