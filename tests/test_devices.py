from __future__ import annotations

import pytest
import torch

from tsdsr.devices import TorchDevice, available_devices, choose_device, choose_dtype, to_device
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


def test_a_tensor_that_is_there_is_not_copied() -> None:
    x = torch.rand(2, 3)
    assert to_device(x, torch.device("cpu")) is x


def test_free_memory_is_that_of_the_host_without_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tsdsr.devices.free_ram", lambda: 12345)
    assert TorchDevice(torch.device("cpu")).free_memory() == 12345


def test_networks_compute_in_floating_point() -> None:
    assert choose_dtype(torch.float16, torch.device("cpu")) == torch.float16
    with pytest.raises(ModelError, match=r"unknown dtype torch\.int8; choose from auto, fp32, fp16, bf16"):
        choose_dtype(torch.int8, torch.device("cpu"))
