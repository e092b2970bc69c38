"""Computations on arrays run in numpy and in torch."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from tsdsr.arrays import Array, HostDevice
from tsdsr.devices import TorchDevice

DEVICES = [HostDevice(), TorchDevice(torch.device("cpu"))]
on_both = pytest.mark.parametrize("device", DEVICES, ids=["numpy", "torch"])


def tensor(x: Array) -> Tensor:
    """An array of either kind as a tensor, to compare it with one."""
    return x if isinstance(x, Tensor) else torch.from_numpy(x.copy())
