"""Normal noise by position: the same at a latent position however the image is tiled."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from tsdsr.models.latents import Noise

_BLOCK = 64


class NoiseField:
    """An unbounded plane of standard normal noise, of which any window can be drawn.

    The plane consists of blocks, each drawn by a counter-based generator (Philox) with the block's position as counter.

    Args:
        generator (torch.Generator): one number is drawn from it as the field's seed.
    """

    def __init__(self, generator: torch.Generator) -> None:
        self.seed = int(torch.randint(2**63 - 1, (), generator=generator, device=generator.device))

    def window(self, top: int, left: int, shape: tuple[int, ...]) -> Tensor:
        """Return the noise of the window at (top, left), float32 of ``shape`` (C, h, w), on the CPU."""
        channels, height, width = shape
        rows = range(top // _BLOCK, -(-(top + height) // _BLOCK))
        cols = range(left // _BLOCK, -(-(left + width) // _BLOCK))
        plane = np.concatenate([np.concatenate([self._block(r, c, channels) for c in cols], -1) for r in rows], -2)
        y, x = top - rows.start * _BLOCK, left - cols.start * _BLOCK
        return torch.from_numpy(plane[:, y : y + height, x : x + width].copy())

    def _block(self, row: int, col: int, channels: int) -> np.ndarray:
        bits = np.random.Philox(key=self.seed, counter=[0, 0, row, col])
        return np.random.Generator(bits).standard_normal((channels, _BLOCK, _BLOCK), dtype=np.float32)


def noise_at(fields: Sequence[NoiseField], places: Sequence[tuple[int, int]]) -> Noise:
    """Create the noise for a batch of latents (N * B, C, h, w): N tiles of B samples.

    Args:
        fields (sequence of NoiseField): one for each of the B samples.
        places (sequence of tuples): row and column of the first latent position of each of the N tiles.
    """

    def noise(shape: torch.Size) -> Tensor:
        return torch.stack([field.window(*place, tuple(shape[1:])) for place in places for field in fields])

    return noise
