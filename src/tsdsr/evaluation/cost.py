"""Time and memory of a system on one image: median of warm runs, with the device and precision."""

from __future__ import annotations

from collections.abc import Callable
from statistics import median

import torch
from PIL import Image

from tsdsr.devices import TorchDevice
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
    """Measure time and memory for one image.

    Args:
        restore (callable): the whole system.
        image (PIL image): input image.
        network (callable | None): runs the system once and returns the seconds spent in its network, without the
            autoencoder.
        parameters (int): number of parameters.
        device, dtype (str): device and precision of the system.
        runs (int): number of warm runs.
    """
    where = TorchDevice(torch.device(device))
    with peak_memory(where) as peak:
        seconds = seconds_of(lambda: restore(image), where, runs)
    alone = None if network is None else median(network() for _ in range(runs))
    return Cost(seconds, alone, runs, device, dtype, image.size, parameters, peak[0] if peak else None)
