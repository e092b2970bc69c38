"""Description of the machine that measurements were made on: hardware and versions."""

from __future__ import annotations

import os
import platform
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

from tsdsr.devices import choose_dtype

PACKAGES = ("tsdsr", "torch", "diffusers", "transformers", "peft", "safetensors", "huggingface_hub", "Pillow", "numpy")
"""Packages that all measurements depend on."""


def describe_machine() -> dict[str, str | int | float | list[str]]:
    """Return processor, cores, torch's vector instructions, bf16 support, GPUs and memory in GB (1e9 bytes)."""
    usable = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else range(os.cpu_count() or 1)
    found: dict[str, str | int | float | list[str]] = {
        "cpu": _processor(),
        "cores": len(usable),
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "bf16": choose_dtype("auto", torch.device("cpu")) is torch.bfloat16,
        "gpus": [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())],
        "system": f"{platform.system()} {platform.machine()}",
    }
    if hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
        found["memory_gb"] = round(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 1e9, 1)
    return found


def versions(*packages: str) -> dict[str, str]:
    """Return the versions of installed packages; default: Python and :data:`PACKAGES`."""
    found = {} if packages else {"python": platform.python_version()}
    for name in packages or PACKAGES:
        with suppress(PackageNotFoundError):
            found[name] = version(name)
    return found


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())
