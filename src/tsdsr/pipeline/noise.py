"""Normal noise by position: the same at a latent position however the image is tiled."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from numbers import Integral
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from tsdsr.errors import InvalidInputError

if TYPE_CHECKING:
    import torch

Generator: TypeAlias = "int | np.random.Generator | torch.Generator"
"""A seed, or a generator of numpy or torch."""
Noise: TypeAlias = "Callable[[Sequence[int]], np.ndarray]"
"""The shape of a batch of latents (B, C, h, w) → standard normal noise of that shape, float32."""

_BLOCK = 64
_SEEDS = 2**63 - 1


class NoiseField:
    """An unbounded plane of standard normal noise, of which any window can be drawn.

    The plane consists of blocks, each drawn by a counter-based generator (Philox) with the block's position as counter.

    Args:
        seed (int): in [0, 2**63 - 1), see :func:`draw_seed`.
    """

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def window(self, top: int, left: int, shape: tuple[int, ...]) -> np.ndarray:
        """Return the noise of the window at (top, left), float32 of ``shape`` (C, h, w)."""
        channels, height, width = shape
        rows = range(top // _BLOCK, -(-(top + height) // _BLOCK))
        cols = range(left // _BLOCK, -(-(left + width) // _BLOCK))
        plane = np.concatenate([np.concatenate([self._block(r, c, channels) for c in cols], -1) for r in rows], -2)
        y, x = top - rows.start * _BLOCK, left - cols.start * _BLOCK
        window: np.ndarray = plane[:, y : y + height, x : x + width]
        return window

    def _block(self, row: int, col: int, channels: int) -> np.ndarray:
        bits = np.random.Philox(key=self.seed, counter=[0, 0, row, col])
        return np.random.Generator(bits).standard_normal((channels, _BLOCK, _BLOCK), dtype=np.float32)


def noise_fields(generator: Generator, count: int) -> list[NoiseField]:
    """Create the noise of ``count`` samples.

    Raises:
        InvalidInputError: ``generator`` is neither a whole number nor a generator.
    """
    source = np.random.RandomState(int(generator) % 2**32) if isinstance(generator, Integral) else generator
    known = isinstance(source, np.random.RandomState | np.random.Generator) or type(source).__module__.startswith(
        "torch"
    )
    if not known:
        raise InvalidInputError(
            f"generator must be a whole number or a generator of numpy or torch, got {type(generator).__name__}"
        )
    return [NoiseField(draw_seed(source)) for _ in range(count)]


def draw_seed(generator: Generator | np.random.RandomState) -> int:
    """Draw the seed of a noise field. An integer gives the same as ``torch.Generator().manual_seed(integer)``."""
    if isinstance(generator, int):
        generator = np.random.RandomState(generator % 2**32)  # torch's generator, seeded as torch does
    if isinstance(generator, np.random.RandomState):
        high, low = (int(bits) for bits in generator.randint(0, 2**32, 2, np.uint32))
        return ((high << 32) | low) % _SEEDS
    if isinstance(generator, np.random.Generator):
        return int(generator.integers(_SEEDS))
    import torch

    return int(torch.randint(_SEEDS, (), generator=generator, device=generator.device))


def noise_at(fields: Sequence[NoiseField], places: Sequence[tuple[int, int]]) -> Noise:
    """Create the noise for a batch of latents (N * B, C, h, w): N tiles of B samples.

    Args:
        fields (sequence of NoiseField): one for each of the B samples.
        places (sequence of tuples): row and column of the first latent position of each of the N tiles.
    """

    def noise(shape: Sequence[int]) -> np.ndarray:
        return np.stack([field.window(*place, tuple(shape[1:])) for place in places for field in fields])

    return noise
