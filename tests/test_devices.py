from __future__ import annotations

import pytest
import torch

from tsdsr.devices import HostCopies, available_devices, choose_device, to_device
from tsdsr.errors import ModelError


@pytest.mark.parametrize(
    "name", ["mps", "xpu", "cuda:99", "cuda:-1", "vulkan", "hpu", "meta", "toaster", "", "CPU", None]
)
def test_a_device_that_is_not_here_is_one_short_sentence(name: str) -> None:
    if name in available_devices():
        pytest.skip("this machine has it")
    with pytest.raises(ModelError, match="available: auto, cpu") as caught:
        choose_device(name)
    assert len(str(caught.value)) < 120
    assert str(name) in str(caught.value)


def test_every_available_device_can_be_chosen() -> None:
    assert available_devices()[0] == "cpu"
    for name in available_devices():
        assert choose_device(name) == torch.device(name)
    assert choose_device().type in available_devices()


def test_on_the_cpu_copies_are_immediate_and_single() -> None:
    x = torch.rand(2, 3)
    assert to_device(x, torch.device("cpu")) is x
    result, copies = torch.zeros(4, 3), HostCopies()
    copies.put(x, result[1:3])
    assert torch.equal(result[1:3], x)
    copies.flush()
    assert torch.equal(result[1:3], x)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_copies_from_a_gpu_arrive() -> None:
    x = torch.rand(64, 3)
    result, copies = torch.zeros(64, 3), HostCopies()
    for start in range(0, 64, 16):
        copies.put(to_device(x[start : start + 16], torch.device("cuda")), result[start : start + 16])
    copies.flush()
    assert torch.equal(result, x)
