"""Tests of the core dependencies alone, without torch: ``make test-light``. Elsewhere they refuse to run."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from importlib.abc import MetaPathFinder
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from PIL import Image

ROOT = Path(__file__).resolve().parents[2]

OPTIONAL = ("torch", "diffusers", "transformers", "peft", "safetensors", "huggingface_hub", "onnx", "openvino", "scipy")
"""Modules that the core does without."""

if installed := [name for name in OPTIONAL if find_spec(name) is not None]:
    raise pytest.UsageError(f"tests/light is for an environment without {', '.join(installed)}: run 'make test-light'")


class ImportRecorder(MetaPathFinder):
    """Records attempts to import optional modules. Looking whether one is installed (``find_spec``) is none.

    Attributes:
        tried (list of str): names of the modules.
    """

    def __init__(self) -> None:
        self.tried: list[str] = []

    def find_spec(self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None) -> None:
        importing = sys._getframe(2).f_code.co_name == "_find_and_load_unlocked"
        if importing and fullname.partition(".")[0] in OPTIONAL:
            self.tried.append(fullname)


recorder = ImportRecorder()
sys.meta_path.insert(0, recorder)


@pytest.fixture(autouse=True)
def tried_imports() -> Iterator[list[str]]:
    """Optional modules that the test tries to import. A test that expects some clears the list."""
    recorder.tried.clear()
    yield recorder.tried
    assert recorder.tried == []


@pytest.fixture(scope="session")
def photo() -> np.ndarray:
    """A part (48, 64, 3) of the example photograph, uint8."""
    with Image.open(ROOT / "examples" / "astronaut_lq.png") as image:
        return np.asarray(image.convert("RGB"))[30:78, 30:94].copy()
