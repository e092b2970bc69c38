"""Averaged weights in place of the trained ones, for a while."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from diffusers.training_utils import EMAModel
from torch import nn


@contextmanager
def averaged_weights(ema: EMAModel, parameters: Sequence[nn.Parameter]) -> Iterator[None]:
    """Within the block the parameters hold their exponential moving average."""
    ema.store(parameters)
    ema.copy_to(parameters)
    try:
        yield
    finally:
        ema.restore(parameters)
