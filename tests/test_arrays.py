from __future__ import annotations

import numpy as np
import pytest
import torch

from tests.kinds import DEVICES, on_both
from tsdsr.arrays import ArrayDevice, HostDevice
from tsdsr.devices import TorchDevice


@on_both
@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float16", "float32"])
def test_values_of_any_kind_are_uploaded_and_stored(device: ArrayDevice, dtype: str) -> None:
    x = np.arange(24).reshape(2, 3, 4).astype(dtype)
    for given in (x, torch.from_numpy(x), x[:, ::-1], np.broadcast_to(x[:1], x.shape)):
        here = device.upload(given)
        assert str(here.dtype).removeprefix("torch.") == dtype
        for result in (np.zeros((4, 3, 4), dtype), torch.from_numpy(np.zeros((4, 3, 4), dtype))):
            device.store(here, result[1:3])
            device.flush()
            assert np.array_equal(np.asarray(result)[1:3], np.asarray(given))
            assert not np.asarray(result)[::3].any()


def test_shared_memory_is_not_copied() -> None:
    x = np.zeros(3, np.float32)
    for device in DEVICES:
        for given in (x, torch.from_numpy(x)):
            assert np.shares_memory(np.asarray(device.upload(given)), x)


def test_read_only_pixels_are_not_shared_with_torch() -> None:
    x = np.zeros(3, np.float32)
    x.flags.writeable = False
    TorchDevice(torch.device("cpu")).upload(x).add_(1)
    assert not x.any()


def test_bfloat16_exists_in_torch_only() -> None:
    x = HostDevice().upload(torch.tensor([1.5, 2.0], dtype=torch.bfloat16, requires_grad=True))
    assert x.dtype == np.float32
    assert x.tolist() == [1.5, 2.0]


@pytest.mark.cuda
def test_copies_from_a_gpu_arrive() -> None:
    x = torch.rand(64, 3)
    result, device = np.zeros((64, 3), np.float32), TorchDevice(torch.device("cuda"))
    for start in range(0, 64, 16):
        device.store(device.upload(x[start : start + 16]), result[start : start + 16])
    device.flush()
    assert np.array_equal(result, x)
