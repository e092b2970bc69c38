from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

import tsdsr.pipeline.memory as memory
from tsdsr.models.zoo import MINI, get_spec
from tsdsr.pipeline.memory import control_group_memory, free_memory, is_out_of_memory, largest_tile, make_canvas

GIB = 2**30


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
    monkeypatch.setattr(memory, "control_group_memory", lambda: 12345)
    assert free_memory(torch.device("cpu")) == 12345


def test_the_tile_follows_memory_precision_and_the_native_size() -> None:
    sd3, size = get_spec("sd3"), (4096, 8192)
    assert largest_tile(sd3, size, 100 * GIB, torch.float32) == 512
    small = largest_tile(sd3, size, GIB, torch.float32)
    assert 64 <= small < 512
    assert small % 16 == 0
    used = sd3.tile_bytes * small**2 + 16 * 4096 * small + sd3.fixed_tile_bytes
    assert used <= 0.4 * GIB
    assert largest_tile(sd3, size, GIB, torch.bfloat16) > small
    assert largest_tile(sd3, size, 0, torch.float32) == 64
    assert largest_tile(MINI, size, 8 * GIB, torch.float32) == 1024


def test_a_result_that_does_not_fit_comfortably_is_kept_on_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    assert type(make_canvas((8, 8, 3), np.uint8)) is np.ndarray
    monkeypatch.setattr(memory, "free_memory", lambda device: 300)
    canvas = make_canvas((8, 8, 3), np.uint16)
    assert isinstance(canvas, np.memmap)
    canvas[:] = 65535
    assert canvas.shape == (8, 8, 3)
    assert canvas.dtype == np.uint16


def test_faces_of_out_of_memory() -> None:
    assert is_out_of_memory(MemoryError())
    assert is_out_of_memory(torch.OutOfMemoryError("x"))
    assert is_out_of_memory(RuntimeError("CUDA error: out of memory"))
    assert is_out_of_memory(RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 7 bytes"))
    assert not is_out_of_memory(RuntimeError("shape mismatch"))
    assert not is_out_of_memory(ValueError("out of memory"))
