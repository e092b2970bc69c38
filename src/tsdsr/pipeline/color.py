"""Colour alignment of a restored image with its low-quality source."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tsdsr.arrays import Array, HostDevice, beside, namespace, new_empty, part
from tsdsr.errors import InvalidInputError
from tsdsr.measuring import stage

WAVELET_RADIUS = 1 + 2 + 4 + 8 + 16
"""Radius of the wavelet fix in pixels, with its five levels."""


def wavelet_color_fix(x_hat: Array, source: Array, levels: int = 5) -> Array:
    """Keep the detail of ``x_hat`` and take the low frequencies from ``source``.

    The low-frequency part ``L`` is what remains after ``levels`` à-trous blurs with dilations 1, 2, 4, …; the blur
    is linear, so the exchange ``x_hat - L(x_hat) + L(source)`` needs only one decomposition, that of the difference.

    Args:
        x_hat (array): restored image (B, C, H, W), float32.
        source (array): reference for colour, the same shape.
        levels (int): number of blurs; 5 keeps structures below about 64 pixels.

    Returns:
        array: shape of ``x_hat``, not clamped.

    Raises:
        InvalidInputError: the shapes differ.
    """
    if x_hat.shape != source.shape:
        raise InvalidInputError(f"shapes differ: {tuple(x_hat.shape)} and {tuple(source.shape)}")
    with stage("colour"):
        low = source - x_hat
        for level in range(levels):
            for axis in (-1, -2):
                _add_neighbours(low, 2**level, axis)
        low *= 16.0**-levels  # a power of two, so that scaling once is exact
        low += x_hat
        return low


def _add_neighbours(x: Array, distance: int, axis: int) -> None:
    """Filter with [1, 2, 1] along an axis, with neighbours at a distance, in place; borders are replicated.

    This is the sum of neighbours twice: first between each position and the next, then between those sums. Additions
    of shifted views are ten times as fast as a convolution on a CPU.
    """
    xp, length = namespace(x), x.shape[axis]
    reach, widened = min(distance, length), length + distance
    shape = (*x.shape[:-1], widened) if axis == -1 else (*x.shape[:-2], widened, x.shape[-1])
    pairs, first, last = new_empty(x, shape), part(x, 0, 1, axis), part(x, length - 1, length, axis)
    xp.add(part(x, 0, reach, axis), first, out=part(pairs, 0, reach, axis))
    xp.add(part(x, length - reach, length, axis), last, out=part(pairs, widened - reach, widened, axis))
    middle = part(pairs, reach, widened - reach, axis)
    if distance < length:
        xp.add(part(x, 0, length - distance, axis), part(x, distance, length, axis), out=middle)
    else:
        middle[...] = first + last
    xp.add(part(pairs, 0, length, axis), part(pairs, distance, widened, axis), out=x)


@dataclass
class Moments:
    """Running mean and deviation of an image per sample and channel, summed in float64 on the host.

    Attributes:
        count (int): pixels so far.
        total, squares (ndarray | float): sums of the values and of their squares, (B, C, 1, 1).
    """

    count: int = 0
    total: np.ndarray | float = 0.0
    squares: np.ndarray | float = 0.0

    def add(self, x: Array) -> Moments:
        """Add pixels (B, C, h, w), and return self."""
        with stage("colour"):
            xp, count = namespace(x), x.shape[-2] * x.shape[-1]
            means, variances = (f(x, axis=(-2, -1), keepdims=True) for f in (xp.mean, xp.var))
            mean, variance = (HostDevice().upload(values).astype(np.float64) for values in (means, variances))
            self.count += count
            self.total = self.total + count * mean
            self.squares = self.squares + count * (variance + mean**2)
        return self

    def mean_std(self) -> tuple[np.ndarray, np.ndarray]:
        """Return mean and standard deviation per channel, float32 (B, C, 1, 1); the variance is kept above zero."""
        total, squares = np.asarray(self.total), np.asarray(self.squares)
        variance = np.maximum(squares - total**2 / self.count, 0) / max(1, self.count - 1)
        return (total / self.count).astype(np.float32), np.sqrt(variance + 1e-5).astype(np.float32)


def adain_color_fix(x_hat: Array, source: Array) -> Array:
    """Give each channel of ``x_hat`` the mean and standard deviation of ``source`` (Huang & Belongie 2017).

    Args:
        x_hat (array): restored image (B, C, H, W).
        source (array): reference for colour (B, C, h, w); the size may differ.

    Returns:
        array: shape of ``x_hat``, not clamped.
    """
    return adain(x_hat, Moments().add(x_hat), Moments().add(source))


def adain(x_hat: Array, own: Moments, wanted: Moments) -> Array:
    """Compute ``(x_hat - mean) / std * wanted_std + wanted_mean`` on part of an image with whole-image statistics.

    Args:
        x_hat (array): part of the restored image (B, C, h, w).
        own (Moments): moments of the whole restored image.
        wanted (Moments): moments of the reference.
    """
    with stage("colour"):
        mean, std, wanted_mean, wanted_std = (beside(v, x_hat) for v in (*own.mean_std(), *wanted.mean_std()))
        fixed = x_hat - mean
        fixed /= std
        fixed *= wanted_std
        fixed += wanted_mean
        return fixed
