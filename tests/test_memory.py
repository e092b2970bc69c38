from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import tsdsr.memory as memory
from tsdsr.memory import control_group_memory, free_ram


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
    assert free_ram() > 0
    monkeypatch.setattr(memory, "control_group_memory", lambda: 12345)
    assert free_ram() == 12345


@pytest.mark.skipif(sys.platform != "linux", reason="the limit is POSIX's, psutil's figure comparable on Linux only")
def test_a_limited_address_space_limits_what_is_free() -> None:
    code = """
import psutil, resource
from tsdsr.memory import address_space_left, free_ram
assert address_space_left() is None
limit = psutil.Process().memory_info().vms + 300 * 2**20
resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
assert 200 * 2**20 < address_space_left() <= 300 * 2**20
assert free_ram() <= 300 * 2**20
"""
    subprocess.run([sys.executable, "-c", code], check=True)
