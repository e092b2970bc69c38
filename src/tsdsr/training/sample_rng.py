"""Random numbers per sample, independent of the batch, process or step in which it occurs."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor


class SampleRNG:
    """One generator per sample, determined by ``(seed, stream, sample number)``.

    Two processes with half of the batch each, or two accumulated micro-batches, draw the same numbers as one batch, and
    a resumed run draws the same numbers as an uninterrupted one. Noise for an accelerator is drawn there, by its own
    generators: it differs from the CPU's, but is reproducible on the same kind of device.

    Args:
        seed (int): the run's seed.
        stream (int): separates independent uses.
        items (sequence of int): sample numbers of the batch.
    """

    def __init__(self, seed: int, stream: int, items: Sequence[int]) -> None:
        self._generators = [
            torch.Generator().manual_seed(int(np.random.SeedSequence((seed, stream, item)).generate_state(1)[0]))
            for item in items
        ]
        self._on_device: list[torch.Generator] = []

    def normal(self, shape: Sequence[int], like: Tensor) -> Tensor:
        """Draw standard normal noise, shape (B, *shape), float32 on ``like``'s device."""
        generators = self._generators
        if like.device.type != "cpu":
            if not self._on_device:
                seeds = (g.initial_seed() for g in self._generators)
                self._on_device = [torch.Generator(like.device).manual_seed(seed) for seed in seeds]
            generators = self._on_device
        return torch.stack([torch.randn(tuple(shape), generator=g, device=like.device) for g in generators])

    def uniform(self, count: int | None = None) -> Tensor:
        """Draw uniform numbers in [0, 1), float32 on the CPU, shape (B,) or (count, B)."""
        rows = [torch.rand(1 if count is None else count, generator=g) for g in self._generators]
        drawn = torch.stack(rows, dim=1)
        return drawn[0] if count is None else drawn

    def integers(self, low: float, high: float, count: int | None = None) -> Tensor:
        """Draw integers from ``low`` to ``high`` inclusive, as float32, shape (B,) or (count, B)."""
        low, high = round(low), round(high)
        return (low + (self.uniform(count) * (high - low + 1)).floor()).clamp(max=high)
