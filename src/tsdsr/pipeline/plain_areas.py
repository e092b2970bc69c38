"""Where the input is flat or neutral, the result follows it.

Restoration has nothing to add there, and a network is never exact: it leaves faint patterns in flat areas, frames at
borders, and coloured fringes on grey photographs. Two weights are measured on the input at its own size, so they do not
depend on tiles:

* *flat*: the input hardly changes in a neighbourhood. The result is blended with the enlarged input.
* *neutral*: the input is grey in a neighbourhood or nearly grey as a whole. The colour of the result, not its
  brightness, is blended with that of the enlarged input. A tint such as sepia is kept, and nothing loses its colour.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from tsdsr.measuring import stage
from tsdsr.pixels import to_unit

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
        pixels (Tensor): the input (B, C, h, w): uint8, uint16 or floating point in [0, 1].
        size (tuple): height and width of the result.
        device (torch.device): device of the weights.
    """

    def __init__(self, pixels: Tensor, size: tuple[int, int], device: torch.device) -> None:
        self._pixels, self._size, self._device = pixels, size, device
        self._neutral = torch.stack([_falling(_common_tint(sample), *_PICTURE_TINT) for sample in pixels])
        self._neutral = self._neutral.reshape(-1, 1, 1, 1).to(device)

    def weights(self, rows: range, cols: range) -> tuple[Tensor | None, Tensor | None]:
        """Return the weights of flat and of neutral areas in a window of the result.

        Returns:
            tuple: (B, 1, rows, columns) in [0, 1] each; None if zero everywhere.
        """
        y, x = (_Axis.at(*axis) for axis in zip((rows, cols), self._pixels.shape[-2:], self._size, strict=True))
        near = to_unit(self._pixels[..., y.near.start : y.near.stop, x.near.start : x.near.stop].to(self._device))
        exact = _falling(_range(near, 1), *_EXACT)
        flat = torch.maximum(exact, _falling(_range(near, _RADIUS), *_NEARLY))
        tint = _largest(_tint(near), _RADIUS)
        neutral = torch.maximum(_falling(tint, *_TINT), self._neutral)
        # On a GPU all weights are used: a test for zeros would wait for the device.
        used = [near.device.type != "cpu" or bool(weight.any()) for weight in (flat, neutral)]
        return tuple(  # type: ignore[return-value]
            x.enlarge(y.enlarge(weight, -2), -1) if use else None
            for weight, use in zip((flat, neutral), used, strict=True)
        )

    def follow(self, restored: Tensor, source: Tensor, rows: range, cols: range) -> Tensor:
        """Blend a window of the result, (B, 3, rows, columns), with the same window of the enlarged input."""
        with stage("colour"):
            flat, neutral = self.weights(rows, cols)
            if flat is None and neutral is None:
                return restored
            change = restored - source
            if neutral is not None:
                # Brightness is the mean of the channels, so a grey photograph gives the same result with one channel.
                change.lerp_(change.mean(dim=1, keepdim=True), neutral)
            if flat is not None:
                change.mul_(1 - flat)
            return change.add_(source)


@dataclass(frozen=True)
class _Axis:
    """Linear interpolation from an axis of the input to positions of the enlarged axis.

    Attributes:
        near (range): source positions that the weights at these positions depend on.
        index (Tensor): the lower of the two source positions, relative to ``near``, (n,).
        part (Tensor): distance from it, float32 in [0, 1], (n,).
    """

    near: range
    index: Tensor
    part: Tensor

    @classmethod
    def at(cls, positions: range, length: int, enlarged: int) -> _Axis:
        target = torch.arange(positions.start, positions.stop, dtype=torch.float64)
        source = ((target + 0.5) * (length / enlarged) - 0.5).clamp(0, length - 1)
        index = source.floor().clamp(max=max(0, length - 2))
        first, last = int(index[0]), min(length - 1, int(index[-1]) + 1)
        near = range(max(0, first - _RADIUS), min(length, last + _RADIUS + 1))
        return cls(near, index.long() - near.start, (source - index).float())

    def enlarge(self, weights: Tensor, dim: int) -> Tensor:
        index, part = self.index.to(weights.device), self.part.to(weights.device)
        if dim == -2:
            part = part[:, None]
        upper = (index + 1).clamp(max=weights.shape[dim] - 1)
        return torch.lerp(weights.index_select(dim, index), weights.index_select(dim, upper), part)


def _falling(x: Tensor, low: float, high: float) -> Tensor:
    """Return one up to ``low``, zero from ``high``, linear in between."""
    return ((high - x) / (high - low)).clamp(0, 1)


def _range(x: Tensor, radius: int) -> Tensor:
    """Return the largest range of a channel within a radius, (B, 1, h, w). Nothing outside the image counts."""
    return (_largest(x, radius) + _largest(-x, radius)).amax(dim=1, keepdim=True)


def _largest(x: Tensor, radius: int) -> Tensor:
    """Return the largest value within a radius, along one axis after the other, which is faster."""
    edge = 2 * radius + 1
    return F.max_pool2d(F.max_pool2d(x, (1, edge), 1, (0, radius)), (edge, 1), 1, (radius, 0))


def _tint(x: Tensor) -> Tensor:
    """Return the difference between the largest and the smallest channel, (…, 1, h, w)."""
    return x.amax(dim=-3, keepdim=True) - x.amin(dim=-3, keepdim=True)


def _common_tint(pixels: Tensor) -> Tensor:
    """Return the tint that 0.5 % of the pixels of an image (C, h, w) exceed, to a level of 8 bits, on the CPU."""
    counts = torch.zeros(256)
    for start in range(0, pixels.shape[-2], _ROWS):
        tint = _tint(to_unit(pixels[:, start : start + _ROWS])).cpu()
        counts += torch.histc(tint * 255, 256, -0.5, 255.5)
    reached: Sequence[int] = (counts.cumsum(0) >= _SHARE * counts.sum()).nonzero()[:1].flatten().tolist()
    return torch.tensor(reached[0] * _LEVEL)
