"""The environment has the core dependencies only, and the package imports without more."""

from __future__ import annotations

import re
import subprocess
import sys
from importlib.metadata import distribution, distributions

import pytest

import tsdsr
from tsdsr.errors import MissingDependencyError

TOOLS = ("pip", "setuptools", "wheel", "pytest", "pytest-timeout")
"""What the environment has besides the package: pip's own, and what runs the tests."""


def normalised(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def requirements(name: str) -> set[str]:
    """Return the names of all distributions that one needs without its extras, directly or not."""
    found: set[str] = set()
    todo = [name]
    while todo:
        name = normalised(todo.pop())
        if name not in found:
            found.add(name)
            lines = distribution(name).requires or []
            names = {re.match(r"[\w.-]+", line)[0] for line in lines if "extra ==" not in line}  # type: ignore[index]
            todo += [n for n in names if is_installed(n)]
    return found


def is_installed(name: str) -> bool:
    return normalised(name) in {normalised(d.name) for d in distributions()}


def test_nothing_but_the_core_dependencies_is_installed() -> None:
    tools = set().union(*(requirements(tool) for tool in TOOLS if is_installed(tool)))
    assert {normalised(d.name) for d in distributions()} - tools - requirements("tsdsr") == set()


def test_torch_cannot_be_imported(tried_imports: list[str]) -> None:
    """Also shows that the record of imports works."""
    with pytest.raises(ModuleNotFoundError):
        import torch  # noqa: F401
    assert tried_imports == ["torch"]
    tried_imports.clear()


@pytest.mark.parametrize("name", ["fold", "train_student", "OneStepSRPipeline", "export_pipeline", "tsd_gradient"])
def test_a_public_name_that_needs_torch_says_so(name: str, tried_imports: list[str]) -> None:
    with pytest.raises(MissingDependencyError, match=rf"^tsdsr\.{name} needs PyTorch: run pip install '\.\[torch\]'"):
        getattr(tsdsr, name)
    tried_imports.clear()


def test_the_command_starts() -> None:
    made = subprocess.run([sys.executable, "-m", "tsdsr", "--help"], capture_output=True, text=True, check=True)
    assert made.stdout.startswith("Usage: tsdsr [OPTIONS] COMMAND")
