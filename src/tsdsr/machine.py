"""Description of the machine that measurements were made on: hardware and versions."""

from __future__ import annotations

import os
import platform
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec

from tsdsr.errors import TORCH_PACKAGES
from tsdsr.processor import core_count, processor_name

PACKAGES = ("tsdsr", "onnxruntime", *TORCH_PACKAGES, "Pillow", "numpy")
"""Packages that measurements depend on."""


def describe_machine() -> dict[str, str | float | list[str]]:
    """Return processor, cores, GPUs, memory in GB (1e9 bytes), and torch's vector instructions and bf16 support."""
    found: dict[str, str | float | list[str]] = {
        "cpu": processor_name(),
        "cores": core_count(),
        "system": f"{platform.system()} {platform.machine()}",
    }
    if find_spec("torch") is not None:
        found |= _seen_by_torch()
    if hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
        found["memory_gb"] = round(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 1e9, 1)
    return found


def _seen_by_torch() -> dict[str, str | float | list[str]]:
    import torch

    from tsdsr.devices import choose_dtype

    return {
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "bf16": choose_dtype("auto", torch.device("cpu")) is torch.bfloat16,
        "gpus": [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())],
    }


def versions(*packages: str) -> dict[str, str]:
    """Return the versions of installed packages; default: Python and :data:`PACKAGES`."""
    found = {} if packages else {"python": platform.python_version()}
    for name in packages or PACKAGES:
        with suppress(PackageNotFoundError):
            found[name] = version(name)
    return found
