"""Less flicker in still areas of frames that follow each other.

A model restores each frame on its own, so the detail that it adds to a still area changes with the noise of each frame.
Where the input has not changed beyond its noise, a share of the detail of the frame before is kept::

    result'_t = base_t + s m (result'_{t-1} - base_{t-1}) + (1 - s m) (result_t - base_t)

``base`` is the smoothed input, enlarged: brightness and colour follow the input at once, and no noise of the input
comes back. ``s`` is the strength, ``m`` in [0, 1] the map of still areas. Moving areas, and frames after a cut, stay as
they are: nothing is aligned along motion. The state is the frame before, input and result, as they are stored, so that
a sequence can be continued from its files.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from tsdsr.images.picture import Pixels
from tsdsr.pixels import from_unit, to_unit
from tsdsr.resize import BicubicWindow

Floats = NDArray[np.float32]

_WINDOW = 7
"""Side of the window, in pixels of the input, whose change decides whether its centre is still."""

_LEAST_NOISE = 1 / 255
"""Standard deviation of changes that always count as noise, because 8 bits and compression make them."""

_STILL, _MOVING = 1.25, 1.5
"""Change of an area by that of noise: up to the first value it is still, from the second on it moves."""

_SCENE = 0.1
"""Share of a frame that is still, below which a new scene begins."""


class SteadyDetail:
    """Blend restored frames with the ones before.

    Args:
        strength (float): share of the detail that still areas keep, in [0, 1).
        visible (callable | None): maps (h, w) to the rows and columns of the input that results show, see
            :meth:`~tsdsr.pipeline.options.RestoreOptions.visible`.
    """

    def __init__(self, strength: float, visible: Callable[[int, int], tuple[slice, slice]] | None = None) -> None:
        self._strength = strength
        self._visible = visible
        self._before: tuple[Pixels, Pixels] | None = None

    def resume(self, given: Pixels, result: Pixels) -> None:
        """Continue after a frame that was restored and blended before; arguments as in :meth:`blend`."""
        self._before = given.copy(), result.copy()

    def reset(self) -> None:
        """Begin a new sequence."""
        self._before = None

    def wrap(self, enlarge: Callable[[Pixels], Pixels]) -> Callable[[Pixels], Pixels]:
        """Return a function that restores pixels and blends the result; frames have to come in order."""
        return lambda given: self.blend(given, enlarge(given))

    def blend(self, given: Pixels, result: Pixels) -> Pixels:
        """Return a restored frame whose still areas keep some detail of the frame before.

        Args:
            given (array): the input (h, w, C), uint8 or uint16.
            result (array): the restored frame (H, W, C) of the same dtype.

        Returns:
            array: (H, W, C) of the same dtype.
        """
        blended = result
        if self._before is not None:
            before, kept = self._before
            if before.shape == given.shape and kept.shape == result.shape and kept.dtype == result.dtype:
                blended = self._blended(given, before, result, kept)
        self._before = given, blended
        return blended

    def _blended(self, given: Pixels, before: Pixels, result: Pixels, kept: Pixels) -> Pixels:
        if self._visible is not None:
            part = self._visible(*given.shape[:2])
            given, before = given[part], before[part]
        change = to_unit(given) - to_unit(before)
        still = still_areas(to_unit(given), change)
        if np.mean(still > 0.5) < _SCENE:
            return result
        lowered = _smooth(_smooth(change, 3), 3)
        maps = np.concatenate((lowered / 2 + 0.5, still[..., None] * np.float32(self._strength)), 2)
        size, source = result.shape[:2], given.shape[:2]
        window = BicubicWindow(np.arange(size[0]), np.arange(size[1]), source, size)
        enlarged = window.enlarge(np.ascontiguousarray(maps.transpose(2, 0, 1))[None])[0].transpose(1, 2, 0)
        now = to_unit(result)
        difference = to_unit(kept) - now
        difference += enlarged[..., :-1] * 2 - 1
        difference *= enlarged[..., -1:]
        now += difference
        blended: Pixels = from_unit(now, str(result.dtype))
        return blended


def still_areas(given: Floats, change: Floats) -> Floats:
    """Return which areas of a frame have not changed beyond noise: (h, w), 1 where still, 0 where moving.

    The root mean square of the change in a window is compared with that of noise. Noise is what a quarter of the frame
    does not exceed, but no more than the frame's own finest structure suggests: else a frame that moves as a whole
    would count as noisy.

    Args:
        given (ndarray): the frame (h, w, C) in [0, 1].
        change (ndarray): its difference from the frame before.
    """
    local = _smooth((change * change).mean(2, keepdims=True), _WINDOW)[..., 0]
    fine = _smooth((_finest(given) ** 2).mean(2, keepdims=True), _WINDOW)[..., 0]
    noise = min(float(np.percentile(local, 25)), 2 * 1.2 * float(np.percentile(fine, 25)))
    ratio = np.sqrt(local / max(noise, _LEAST_NOISE**2))
    systematic = np.sqrt(
        _smooth((_smooth(change, 5) ** 2).mean(2, keepdims=True), 5)[..., 0] / max(noise, _LEAST_NOISE**2)
    )
    worst = np.maximum(ratio, systematic * 3.5)  # a mean of 25 independent changes is a fifth of one
    still = ((_MOVING - worst) / (_MOVING - _STILL)).clip(0, 1)
    smooth: Floats = _smooth(_least(still)[..., None], 3)[..., 0]
    return smooth


def _finest(x: Floats) -> Floats:
    """Return an estimate of the noise at each pixel: second differences along both axes, of unit gain for noise."""
    padded = np.pad(x, ((1, 1), (1, 1), (0, 0)), mode="edge")
    rows = padded[:-2] - 2 * padded[1:-1] + padded[2:]
    both: Floats = (rows[:, :-2] - 2 * rows[:, 1:-1] + rows[:, 2:]) / 6
    return both


def _smooth(x: Floats, side: int) -> Floats:
    """Return the mean of each square of ``side`` pixels of x (h, w, C); border pixels are repeated."""
    half = side // 2
    for axis in (0, 1):
        width = [(0, 0)] * x.ndim
        width[axis] = (half + 1, half)
        total = np.cumsum(np.pad(x, width, mode="edge"), axis=axis, dtype=np.float64)
        upper = np.take(total, range(side, total.shape[axis]), axis=axis)
        x = ((upper - np.take(total, range(total.shape[axis] - side), axis=axis)) / side).astype(np.float32)
    return x


def _least(x: Floats) -> Floats:
    """Return the least value of each square of 3 pixels of x (h, w)."""
    padded = np.pad(x, 1, mode="edge")
    rows = np.minimum(np.minimum(padded[:-2], padded[1:-1]), padded[2:])
    least: Floats = np.minimum(np.minimum(rows[:, :-2], rows[:, 1:-1]), rows[:, 2:])
    return least
