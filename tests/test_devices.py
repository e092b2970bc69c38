from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch

import tsdsr.devices as devices
from tsdsr.devices import (
    HostCopies,
    available_devices,
    choose_device,
    control_group_memory,
    free_memory,
    to_device,
)
from tsdsr.errors import ModelError


def write(root: Path, files: dict[str, object]) -> None:
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{content}\n")


def test_limits_of_control_groups_v2_count_up_to_the_root(tmp_path: Path) -> None:
    write(tmp_path, {
        "proc/self/cgroup": "0::/slice/box",
        "sys/fs/cgroup/slice/box/memory.max": "max",
        "sys/fs/cgroup/slice/box/memory.current": 100,
        "sys/fs/cgroup/slice/box/memory.stat": "inactive_file 5",
        "sys/fs/cgroup/slice/memory.max": 1000,
        "sys/fs/cgroup/slice/memory.current": 700,
        "sys/fs/cgroup/slice/memory.stat": "anon 9\ninactive_file 50",
    })  # fmt: skip
    assert control_group_memory(tmp_path) == 350


def test_limits_of_control_groups_v1(tmp_path: Path) -> None:
    write(tmp_path, {
        "proc/self/cgroup": "3:cpu,cpuacct:/docker/1\n2:memory:/docker/1",
        "sys/fs/cgroup/memory/docker/1/memory.limit_in_bytes": 900,
        "sys/fs/cgroup/memory/docker/1/memory.usage_in_bytes": 1000,
        "sys/fs/cgroup/memory/docker/1/memory.stat": "total_inactive_file 10",
    })  # fmt: skip
    assert control_group_memory(tmp_path) == 0


def test_without_control_groups_there_is_no_limit(tmp_path: Path) -> None:
    assert control_group_memory(tmp_path) is None
    write(tmp_path, {"proc/self/cgroup": "0::/"})
    assert control_group_memory(tmp_path) is None


def test_a_control_group_limits_what_is_free(monkeypatch: pytest.MonkeyPatch) -> None:
    assert free_memory(torch.device("cpu")) > 0
    monkeypatch.setattr(devices, "control_group_memory", lambda: 12345)
    assert free_memory(torch.device("cpu")) == 12345


@pytest.mark.skipif(sys.platform != "linux", reason="the limit is POSIX's, psutil's figure comparable on Linux only")
def test_a_limited_address_space_limits_what_is_free() -> None:
    code = """
import psutil, resource, torch
from tsdsr.devices import address_space_left, free_memory
assert address_space_left() is None
limit = psutil.Process().memory_info().vms + 300 * 2**20
resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
assert 200 * 2**20 < address_space_left() <= 300 * 2**20
assert free_memory(torch.device("cpu")) <= 300 * 2**20
"""
    subprocess.run([sys.executable, "-c", code], check=True)


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
