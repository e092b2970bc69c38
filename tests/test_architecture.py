"""The shape of the code base: who may import whom, what is public, and rules that hold everywhere."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import tsdsr

ROOT = Path(__file__).resolve().parents[1]
SOURCES = sorted((ROOT / "src" / "tsdsr").rglob("*.py"))

EVERYONES = {"errors", "files", "devices", "measuring", "pixels", "resize"}
MAY_IMPORT = {
    **{name: {"errors"} for name in EVERYONES},
    "measuring": {"devices"},
    "__main__": {"cli"},
    "diffusion": set(),
    "images": set(),
    "models": {"diffusion"},
    "data": {"images"},
    "pipeline": {"diffusion", "models", "images"},
    "optimize": {"diffusion", "models", "pipeline"},
    "runtimes": {"diffusion", "models", "pipeline", "optimize"},
    "benchmark": {"models", "pipeline", "optimize", "images"},
    "training": {"diffusion", "models", "data"},
    "recipes": {"training", "data"},
    "evaluation": {"data", "images"},
    "study": {"data", "evaluation", "images"},
    "cli": {
        "diffusion",
        "models",
        "images",
        "data",
        "pipeline",
        "optimize",
        "runtimes",
        "benchmark",
        "training",
        "recipes",
        "evaluation",
        "study",
    },
}
"""Package → packages it may import; the modules of ``EVERYONES`` and the version are everyone's."""


def package(path: Path) -> str:
    return path.relative_to(ROOT / "src" / "tsdsr").with_suffix("").parts[0]


def imported(path: Path) -> set[str]:
    """First components below ``tsdsr`` of everything the file imports, inside functions too."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            names.add(node.module or "")
        elif isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
    return {name.split(".")[1] for name in names if name.startswith("tsdsr.")}


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: str(p.relative_to(ROOT / "src")))
def test_imports_point_one_way(path: Path) -> None:
    own = package(path)
    if own == "__init__":
        return
    assert own in MAY_IMPORT, f"{own} has no place in the architecture yet"
    strangers = imported(path) - MAY_IMPORT[own] - {own} - (set() if own in EVERYONES else EVERYONES)
    assert not strangers, f"{path.name} imports {strangers}"


def test_diffusion_never_sees_a_network() -> None:
    for path in (ROOT / "src" / "tsdsr" / "diffusion").glob("*.py"):
        assert not re.search(r"\b(diffusers|transformers|peft|nn\.Module)\b", path.read_text().split('"""', 2)[-1]), (
            path
        )


def test_all_equals_the_exports() -> None:
    assert sorted(tsdsr.__all__) == sorted({*tsdsr._EXPORTS, "__version__"})
    assert tsdsr.__dir__() == sorted(tsdsr.__all__)
    for name in tsdsr.__all__:
        assert getattr(tsdsr, name) is not None
    with pytest.raises(AttributeError):
        tsdsr.nonsense  # noqa: B018


def test_type_checkers_see_the_same_exports() -> None:
    tree = ast.parse((ROOT / "src" / "tsdsr" / "__init__.py").read_text())
    block = next(node for node in tree.body if isinstance(node, ast.If))
    seen = {alias.name: node.module for node in block.body if isinstance(node, ast.ImportFrom) for alias in node.names}
    assert seen == tsdsr._EXPORTS


def test_importing_the_package_costs_nothing() -> None:
    code = "import sys, tsdsr, tsdsr.cli; print(sorted({'torch', 'diffusers', 'numpy', 'PIL'} & set(sys.modules)))"
    environment = {k: v for k, v in os.environ.items() if not k.startswith("COV")}
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    assert result.stdout.strip() == "[]"


def test_files_stay_readable() -> None:
    for path in SOURCES:
        assert len(path.read_text().splitlines()) <= 350, path


def test_pickles_are_opened_safely() -> None:
    for path in SOURCES:
        for call in re.findall(r"torch\.load\([^)]*\)", path.read_text()):
            assert "weights_only=True" in call, path


def test_public_functions_are_documented() -> None:
    missing = []
    for path in SOURCES:
        for node in ast.parse(path.read_text()).body:
            public = isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_")
            if public and package(path) != "cli" and not ast.get_docstring(node):
                missing.append(f"{path.name}: {node.name}")
    assert not missing
