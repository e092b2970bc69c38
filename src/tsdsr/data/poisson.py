"""Table-based Poisson sampling on the CPU, several times as fast as sampling with a separate mean per pixel.

Shot noise on 8-bit images has only 256 different means. For each mean, an alias table (Walker 1977) of 256 entries maps
a random integer to a count: the low bits select an entry, the high bits select the entry or its alias.
"""

from __future__ import annotations

import functools

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

_SLOTS = 256  # counts per mean; the largest mean is 256, so 8 standard deviations fit on either side
_BITS = 22  # bits of the acceptance threshold; with 8 bits for the alias they fit an int32


def poisson_counts(
    levels: NDArray[np.uint8], photons: int, generator: torch.Generator | None = None
) -> NDArray[np.float32]:
    """Draw Poisson samples with means ``levels * photons / 255``.

    Args:
        levels (array): 8-bit intensities, any shape.
        photons (int): mean count at intensity 255, at most 256.
        generator (torch.Generator): CPU generator.

    Returns:
        array: counts, float32, shape of ``levels``. Probabilities are exact to 2⁻²².
    """
    table, first = _tables(photons)
    raw = torch.empty(levels.shape, dtype=torch.int32).random_(generator=generator).numpy()  # 31 random bits
    entry: NDArray[np.int32] = raw & (_SLOTS - 1)
    index = torch.from_numpy(levels * np.int32(_SLOTS) + entry)
    packed = table.index_select(0, index.flatten()).numpy().reshape(levels.shape)
    raw >>= 31 - _BITS
    count = np.where(raw < packed >> 8, entry, packed & (_SLOTS - 1))
    if first.any():
        count += first.take(levels)
    return count.astype(np.float32)


@functools.cache
def _tables(photons: int) -> tuple[Tensor, NDArray[np.int32]]:
    """Return (threshold << 8 | alias) for every level and entry, flat, and the count of entry 0 for every level."""
    means = np.arange(256) * (photons / 255)
    first = np.maximum(0, means.astype(int) - _SLOTS // 2)
    counts = first[:, None] + np.arange(_SLOTS)
    log_factorial = np.concatenate([[0.0], np.cumsum(np.log(np.arange(1, counts.max() + 1)))])
    with np.errstate(divide="ignore", invalid="ignore"):
        log_p = np.where(counts == 0, 0.0, counts * np.log(means[:, None])) - means[:, None] - log_factorial[counts]
    share = np.exp(log_p)
    share *= _SLOTS / share.sum(1, keepdims=True)
    alias = np.tile(np.arange(_SLOTS), (256, 1))
    threshold = np.ones_like(share)
    rows, open_entries = np.arange(256), np.ones(share.shape, bool)
    for _ in range(_SLOTS - 1):  # move weight from the largest to the smallest entry until all are equal
        poor = np.where(open_entries, share, np.inf).argmin(1)
        rich = np.where(open_entries, share, -np.inf).argmax(1)
        threshold[rows, poor] = share[rows, poor]
        alias[rows, poor] = rich
        share[rows, rich] -= 1 - share[rows, poor]
        open_entries[rows, poor] = False
    packed = np.rint(threshold * 2**_BITS).astype(np.int32) << 8 | alias
    return torch.from_numpy(packed.astype(np.int32).ravel()), first.astype(np.int32)
