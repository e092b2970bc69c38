"""Where the input is flat or neutral, the result follows it.

Restoration has nothing to add there, and a network is never exact: it leaves faint patterns in flat areas, frames at
borders, and coloured fringes on grey photographs. Two weights are measured on the input at its own size, so they do not
depend on tiles:

* *flat*: the input hardly changes in a neighbourhood. The result is blended with the enlarged input.
* *neutral*: the input is grey in a neighbourhood or nearly grey as a whole. The colour of the result, not its
  brightness, is blended with that of the enlarged input. A tint such as sepia is kept, and nothing loses its colour.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tsdsr.arrays import Array, ArrayDevice, HostDevice, beside, contiguous, dtype_name, namespace, part, take
from tsdsr.measuring import stage
from tsdsr.pixels import from_unit, to_unit

_LEVEL = 1 / 255
_EXACT, _NEARLY = (0.25 * _LEVEL, _LEVEL), (2.05 * _LEVEL, 4 * _LEVEL)
"""Ranges of the input between which the weight falls from one to zero: within 1 pixel, and within 3 pixels."""
_TINT, _PICTURE_TINT = (2.05 * _LEVEL, 5 * _LEVEL), (10 * _LEVEL, 20 * _LEVEL)
"""The same for differences of channels: the largest within 3 pixels, and that which 0.5 % of the picture exceeds."""
_SHARE = 0.995
_RADIUS = 3
_ROWS = 512


class PlainAreas:
    """Weights of flat and neutral areas of an image.

    Args:
        pixels (array): the input (B, C, h, w): uint8, uint16 or floating point in [0, 1].
        size (tuple): height and width of the result.
        device (ArrayDevice): computes the weights.
    """

    def __init__(self, pixels: Array, size: tuple[int, int], device: ArrayDevice) -> None:
        self._pixels, self._size, self._device = pixels, size, device
        tints = np.array([_common_tint(sample) for sample in pixels], np.float32)
        self._neutral = device.upload(_falling(tints, *_PICTURE_TINT).reshape(-1, 1, 1, 1))

    def weights(self, rows: range, cols: range) -> tuple[Array | None, Array | None]:
        """Return the weights of flat and of neutral areas in a window of the result.

        Returns:
            tuple: (B, 1, rows, columns) in [0, 1] each; None if zero everywhere.
        """
        y, x = (_Axis.at(*axis) for axis in zip((rows, cols), self._pixels.shape[-2:], self._size, strict=True))
        near = self._pixels[..., y.near.start : y.near.stop, x.near.start : x.near.stop]
        near, xp = contiguous(to_unit(self._device.upload(near))), self._device.xp
        exact = _falling(_range(near, 1), *_EXACT)
        flat = xp.maximum(exact, _falling(_range(near, _RADIUS), *_NEARLY))
        tint = _largest(_tint(near), _RADIUS)
        neutral = xp.maximum(_falling(tint, *_TINT), self._neutral)
        # On a GPU all weights are used: a test for zeros would wait for the device.
        used = [self._device.queues or float(xp.max(weight)) > 0 for weight in (flat, neutral)]
        return tuple(  # type: ignore[return-value]
            y.enlarge(x.enlarge(weight, -1), -2) if use else None
            for weight, use in zip((flat, neutral), used, strict=True)
        )

    def follow(self, restored: Array, source: Array, rows: range, cols: range) -> Array:
        """Blend a window of the result, (B, 3, rows, columns), with the same window of the enlarged input."""
        with stage("colour"):
            flat, neutral = self.weights(rows, cols)
            if flat is None and neutral is None:
                return restored
            change = restored - source
            if neutral is not None:
                # Brightness is the mean of the channels, so a grey photograph gives the same result with one channel.
                mean = namespace(change).mean(change, axis=1, keepdims=True)
                change -= mean
                change *= 1 - neutral
                change += mean
            if flat is not None:
                change *= 1 - flat
            change += source
            return change


@dataclass(frozen=True)
class _Axis:
    """Linear interpolation from an axis of the input to positions of the enlarged axis.

    Attributes:
        near (range): source positions that the weights at these positions depend on.
        index (ndarray): the lower of the two source positions, relative to ``near``, (n,).
        progress (ndarray): distance from it, float32 in [0, 1], (n,).
    """

    near: range
    index: np.ndarray
    progress: np.ndarray

    @classmethod
    def at(cls, positions: range, length: int, enlarged: int) -> _Axis:
        target = np.arange(positions.start, positions.stop)
        source = ((target + 0.5) * (length / enlarged) - 0.5).clip(0, length - 1)
        index = np.minimum(np.floor(source), max(0, length - 2))
        first, last = int(index[0]), min(length - 1, int(index[-1]) + 1)
        near = range(max(0, first - _RADIUS), min(length, last + _RADIUS + 1))
        return cls(near, index.astype(np.int64) - near.start, (source - index).astype(np.float32))

    def enlarge(self, weights: Array, axis: int) -> Array:
        progress = beside(self.progress if axis == -1 else self.progress[:, None], weights)
        lower = take(weights, self.index, axis)
        change = take(weights, np.minimum(self.index + 1, weights.shape[axis] - 1), axis)
        change -= lower
        change *= progress
        change += lower
        return change


def _falling(x: Array, low: float, high: float) -> Array:
    """Return one up to ``low``, zero from ``high``, linear in between."""
    return namespace(x).clip((high - x) / (high - low), 0, 1)


def _range(x: Array, radius: int) -> Array:
    """Return the largest range of a channel within a radius, (B, 1, h, w). Nothing outside the image counts."""
    return namespace(x).max(_largest(x, radius) + _largest(-x, radius), axis=1, keepdims=True)


def _largest(x: Array, radius: int) -> Array:
    """Return the largest value within a radius, along one axis after the other."""
    return _largest_along(_largest_along(x, radius, -1), radius, -2)


def _largest_along(x: Array, radius: int, axis: int) -> Array:
    """Return the largest value within a radius along an axis, from maxima over growing spans."""
    xp, length, span = namespace(x), x.shape[axis], 1
    first, last = part(x, 0, 1, axis), part(x, length - 1, length, axis)
    x = xp.concat([first] * radius + [x] + [last] * radius, axis=axis)  # a border pixel lies within its own radius
    while span <= 2 * radius:
        step = min(span, 2 * radius + 1 - span)
        x = xp.maximum(part(x, 0, x.shape[axis] - step, axis), part(x, step, x.shape[axis], axis))
        span += step
    return x


def _tint(x: Array) -> Array:
    """Return the difference between the largest and the smallest channel, (…, 1, h, w)."""
    xp = namespace(x)
    return xp.max(x, axis=-3, keepdims=True) - xp.min(x, axis=-3, keepdims=True)


def _common_tint(pixels: Array) -> float:
    """Return the tint that 0.5 % of the pixels of an image (C, h, w) exceed, to a level of 8 bits."""
    counts = np.zeros(256, np.int64)
    for start in range(0, pixels.shape[-2], _ROWS):
        rows = pixels[:, start : start + _ROWS]
        tint = _tint(rows) if dtype_name(rows) == "uint8" else from_unit(_tint(to_unit(rows)), "uint8")
        counts += np.bincount(HostDevice().upload(tint).reshape(-1), minlength=256)
    return float(np.argmax(counts.cumsum() >= _SHARE * counts.sum())) * _LEVEL
