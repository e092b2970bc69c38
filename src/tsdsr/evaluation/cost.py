"""Time and memory of a system on one image: warm, median, with what it ran on."""

from __future__ import annotations

from collections.abc import Callable
from statistics import median

import torch
from PIL import Image

from tsdsr.evaluation.results import Cost
from tsdsr.measuring import peak_memory, seconds_of


def measure(
    restore: Callable[[Image.Image], Image.Image],
    image: Image.Image,
    *,
    network: Callable[[], float] | None = None,
    parameters: int = 0,
    device: str = "cpu",
    dtype: str = "float32",
    runs: int = 5,
) -> Cost:
    """What one image costs.

    Args:
        restore (callable): the whole system.
        image (PIL image): input to time with.
        network (callable | None): runs the system once and gives the seconds spent in its network, without the
            autoencoder.
        parameters (int): number of weights.
        device, dtype (str): where the system runs and in which precision.
        runs (int): warm runs.
    """
    where = torch.device(device)
    with peak_memory(where) as peak:
        seconds = seconds_of(lambda: restore(image), where, runs)
    alone = None if network is None else median(network() for _ in range(runs))
    return Cost(seconds, alone, runs, device, dtype, image.size, parameters, peak[0] if peak else None)
