"""What a figure was measured with."""

from __future__ import annotations

import platform
from importlib.metadata import version

from tsdsr.machine import PACKAGES, describe_machine, versions


def test_versions_of_what_is_installed() -> None:
    assert versions("torch", "no-such-package") == {"torch": version("torch")}
    assert versions()["python"] == platform.python_version()
    assert set(versions()) == {"python", *PACKAGES}


def test_the_machine() -> None:
    found = describe_machine()
    assert {"cpu", "cores", "instructions", "bf16", "gpus", "system"} <= set(found)
    assert found["cores"] >= 1
