"""What processor and GPU this machine has, found without torch."""

from __future__ import annotations

import os
import platform
import sys
from functools import lru_cache
from pathlib import Path

_GPU_FILES = ("/proc/driver/nvidia/version", "/dev/kfd")


def core_count() -> int:
    """Return the number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@lru_cache(maxsize=1)
def _cpuinfo() -> dict[str, str]:
    """Return what Linux says about the first core in ``/proc/cpuinfo``; nothing elsewhere."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return {}
    lines = (line.partition(":") for line in text.partition("\n\n")[0].splitlines())
    return {name.strip(): value.strip() for name, _, value in lines}


def processor_name() -> str:
    """Return the processor's name, or that of its architecture."""
    return _cpuinfo().get("model name") or platform.processor() or platform.machine()


def processor_flags() -> frozenset[str]:
    """Return the instruction sets that Linux names; empty elsewhere."""
    found = _cpuinfo()
    return frozenset(found.get("flags", found.get("Features", "")).split())


def multiplies_bf16() -> bool:
    """Return whether the processor multiplies in bfloat16, with about twice the speed of float32.

    Known on Linux only. :func:`tsdsr.devices.choose_dtype` asks torch, which knows it on Windows too.
    """
    return bool(processor_flags() & {"avx512_bf16", "amx_bf16"})


def multiplies_int8() -> bool:
    """Return whether the processor multiplies 8-bit integers, with two to four times the speed of float32.

    On x86 that is VNNI. Without it, the sums of products overflow in 16 bits, and results are wrong.
    """
    return _apple_chip() or bool(processor_flags() & {"avx512_vnni", "avx_vnni", "asimddp"})


def _apple_chip() -> bool:
    return sys.platform == "darwin" and platform.machine() == "arm64"


def has_gpu() -> bool:
    """Return whether there seems to be a GPU that torch supports: NVIDIA's or AMD's driver, or an Apple chip."""
    return _apple_chip() or any(Path(name).exists() for name in _GPU_FILES)
