"""Structure of the code base: allowed imports, the public API, global rules, and references in the docs."""

from __future__ import annotations

import ast
import os
import re
import runpy
import subprocess
import sys
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

import tsdsr

ROOT = Path(__file__).resolve().parents[1]
SOURCES = sorted((ROOT / "src" / "tsdsr").rglob("*.py"))

EVERYONES = {
    "errors",
    "files",
    "folder_lock",
    "result_records",
    "ahead",
    "arrays",
    "devices",
    "memory",
    "processor",
    "remote_files",
    "storage",
    "safetensors_header",
    "hashing",
    "machine",
    "measuring",
    "pixels",
    "resize",
    "field_checks",
    "wording",
    "out_of_memory",
    "unpickling",
    "web",
}
MAY_IMPORT = {
    **{name: {"errors"} for name in EVERYONES},
    "result_records": {"errors", "files"},
    "remote_files": {"errors", "files", "storage", "wording"},
    "storage": {"errors", "wording"},
    "arrays": {"errors", "memory"},
    "devices": {"errors", "arrays", "memory"},
    "machine": {"devices", "errors", "processor"},
    "measuring": {"arrays"},
    "pixels": {"arrays"},
    "resize": {"arrays"},
    "__main__": {"cli"},
    "diffusion": set(),
    "images": set(),
    "models": {"diffusion"},
    "data": {"images"},
    "pipeline": {"diffusion", "models", "images"},
    "optimize": {"diffusion", "models", "pipeline"},
    "runtimes": {"diffusion", "models", "pipeline", "optimize", "images"},
    "benchmark": {"models", "pipeline", "optimize", "runtimes", "images"},
    "training": {"diffusion", "models", "data"},
    "recipes": {"training", "data"},
    "evaluation": {"data", "images"},
    "study": {"data", "evaluation", "images"},
    "serving": {"models", "pipeline", "runtimes", "images"},
    "integrations": {"models", "pipeline", "runtimes", "images"},
    "video": {"models", "pipeline", "runtimes", "images"},
    "distributed": {"models", "pipeline", "runtimes", "images"},
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
        "serving",
        "integrations",
        "video",
        "distributed",
    },
}
"""Package → packages it may import. Every package may also import the modules of ``EVERYONES``."""


ALSO = {"training/results.py": {"pipeline"}}
"""File → packages that it alone of its package may import: a run stores its student as a pipeline."""


def package(path: Path) -> str:
    return path.relative_to(ROOT / "src" / "tsdsr").with_suffix("").parts[0]


def imported(path: Path) -> set[str]:
    """Return the first component below ``tsdsr`` of every import in the file, including those in functions."""
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
    also = ALSO.get(path.relative_to(ROOT / "src" / "tsdsr").as_posix(), set())
    strangers = imported(path) - MAY_IMPORT[own] - also - {own} - (set() if own in EVERYONES else EVERYONES)
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


def test_images_need_no_torch() -> None:
    modules = [f"tsdsr.images.{path.stem}" for path in SOURCES if package(path) == "images" and path.stem != "__init__"]
    assert len(modules) > 5
    code = f"import sys, {', '.join(modules)}; print('torch' in sys.modules)"
    environment = {k: v for k, v in os.environ.items() if not k.startswith("COV")}
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    assert result.stdout.strip() == "False"


def test_checking_arguments_needs_no_torch() -> None:
    """A wrong argument is reported before torch is imported, which takes seconds."""
    code = "import sys, tsdsr.pipeline.picture_restorer; print('torch' in sys.modules)"
    environment = {k: v for k, v in os.environ.items() if not k.startswith("COV")}
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    assert result.stdout.strip() == "False"


def test_files_and_functions_stay_readable() -> None:
    """350 lines a file, 60 a function; the signature of a command lists its options and does not count."""
    long = []
    for path in (
        p
        for folder in ("src", "tests", "benchmarks", "examples", "docs_tools")
        for p in sorted((ROOT / folder).rglob("*.py"))
    ):
        text = path.read_text()
        if len(text.splitlines()) > 350:
            long.append(str(path))
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                first = node.body[0] if path.parent.name == "cli" else node
                if (node.end_lineno or 0) - first.lineno >= 60:
                    long.append(f"{path}: {node.name}")
    assert long == []


def test_pickles_are_opened_safely() -> None:
    scripts = [p for folder in ("tests", "benchmarks") for p in sorted((ROOT / folder).rglob("*.py"))]
    tried = {Path(__file__), ROOT / "tests" / "test_unpickling.py"}
    for path in {*SOURCES, *scripts} - tried:
        text = path.read_text(encoding="utf-8")
        for call in re.findall(r"torch\.load\(.*", text):
            assert "weights_only=True" in call, path
        assert not re.search(r"jit\.load\(|load_from_file\(|\bpickle\.loads?\(", text), path
        if "create_metric(" in text:  # pyiqa opens its files with weights_only=False
            assert "tensors_only()" in text, path


def test_text_files_name_their_encoding() -> None:
    """The default is the machine's: a file written on one could not be read on another, or not be written at all."""
    nameless = []
    for path in {*SOURCES, *(ROOT / "benchmarks").rglob("*.py")}:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.Call):
                continue
            method = node.func.attr if isinstance(node.func, ast.Attribute) else ""
            name = node.func.id if isinstance(node.func, ast.Name) else ""
            if method in ("read_text", "write_text") or (name == "open" or method == "open"):
                owner = ast.unparse(node.func.value) if isinstance(node.func, ast.Attribute) else ""
                binary = any(isinstance(a, ast.Constant) and "b" in str(a.value) for a in node.args[:2])
                other = owner in ("Image", "av", "os", "tarfile", "fsspec", "zipfile", "pyiqa") or "content" in owner
                if not binary and not other and "encoding" not in {k.arg for k in node.keywords}:
                    nameless.append(f"{path.relative_to(ROOT)}:{node.lineno}")
    assert nameless == []


def test_public_functions_are_documented() -> None:
    missing = []
    for path in SOURCES:
        for node in ast.parse(path.read_text()).body:
            public = isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_")
            if public and package(path) != "cli" and not ast.get_docstring(node):
                missing.append(f"{path.name}: {node.name}")
    assert not missing


def test_the_architecture_page_lists_every_module() -> None:
    tree = (ROOT / "docs" / "contributing" / "architecture.md").read_text().split("```")[1]
    listed, folder = set(), ""
    for indent, name in re.findall(r"^( +)([\w/]+(?:\.py)?)", tree, re.MULTILINE):
        if len(indent) == 2:
            folder = name if name.endswith("/") else ""
        listed.add(name if len(indent) == 2 else folder + name)
    modules = {str(path.relative_to(ROOT / "src" / "tsdsr")) for path in SOURCES if path.stem[:2] != "__"}
    commands = {name for name in modules if name.startswith("cli/")}
    difference = {name for name in listed if name.endswith(".py")} ^ ((modules - commands) | {"__init__.py"})
    assert not difference, f"docs/contributing/architecture.md and src/tsdsr differ: {sorted(difference)}"


def test_the_architecture_page_states_the_allowed_imports() -> None:
    text = (ROOT / "docs" / "contributing" / "architecture.md").read_text()
    rows = re.findall(r"^\| (`.*?) \| (.*?) \|$", text, re.MULTILINE)
    stated = {
        name: set(re.findall(r"`(\w+)`", allowed)) for names, allowed in rows for name in re.findall(r"`(\w+)`", names)
    }
    assert {**stated, "cli": MAY_IMPORT["cli"]} == {
        name: allowed for name, allowed in MAY_IMPORT.items() if name not in EVERYONES | {"__main__"}
    }
    shared = " ".join(text.split()).partition("may also import these modules:")[2].partition(".")[0]
    assert set(re.findall(r"`(\w+)`", shared)) == EVERYONES


def test_the_picture_of_the_packages_agrees_with_the_allowed_imports() -> None:
    """A package imports from lower rows only, and the picture in the docs is the one that the script draws."""
    path = ROOT / "examples" / "make_package_picture.py"
    script: dict[str, Any] = runpy.run_path(str(path))
    row_of = {name: row for row, boxes in enumerate(script["LAYERS"]) for name, _ in boxes}
    packages = {name: allowed for name, allowed in MAY_IMPORT.items() if name not in EVERYONES | {"__main__"}}
    assert set(packages) == set(row_of) - {script["LAYERS"][-1][0][0]}
    for name, allowed in packages.items():
        assert all(row_of[name] < row_of[other] for other in allowed), name
    assert (ROOT / "docs" / "images" / "packages.svg").read_text(encoding="utf-8") == script["draw"]()


def test_the_version_is_the_same_everywhere() -> None:
    stated = {
        "pyproject.toml": r'^version = "(.+)"$',
        "integrations/comfyui/pyproject.toml": r'^version = "(.+)"$',
        "CITATION.cff": r"^version: (.+)$",
        "CHANGELOG.md": r"^## (\S+) \(\d{4}-\d\d-\d\d\)$",
        "web/package.json": r'^  "version": "(.+)",$',
    }
    for name, pattern in stated.items():
        found = re.search(pattern, (ROOT / name).read_text(encoding="utf-8"), re.MULTILINE)
        assert found is not None, name
        assert found[1] == tsdsr.__version__, name


def test_functions_for_users_take_strings_as_paths() -> None:
    """Files and folders that a user names are ``str | os.PathLike``."""
    modules = {
        "data.sources": ("list_photos", "open_source"),
        "data.source_specs": ("parse_source", "read_list"),
        "data.shards": ("write_shards",),
        "data.shard_index": ("open_shards", "check_shards"),
        "data.testset": ("write_test_set", "read_manifest"),
        "evaluation.compare": ("compare",),
        "evaluation.html_report": ("write_report",),
        "evaluation.peers": ("load_peer",),
        "evaluation.scoring": ("evaluate",),
        "models.lora": ("read_released_lora", "read_embeddings"),
        "pipeline.convert": ("convert_released", "save_pipeline"),
        "runtimes.open_model": ("load_pipeline",),
        "runtimes.upscale_file": ("upscale_file",),
        "runtimes.export": ("export_pipeline",),
        "study.create": ("create_study",),
        "study.server": ("serve",),
        "study.sheet_votes": ("read_sheet_votes",),
        "study.sheets": ("write_sheets",),
        "study.votes": ("read_votes",),
        "training.encoder_cache": ("cache_prompts",),
        "training.latent_cache": ("cache_latents",),
        "training.run": ("train_student", "train_teacher", "measure_figures"),
    }
    only_paths = []
    for module, names in modules.items():
        tree = ast.parse((ROOT / "src" / "tsdsr" / f"{module.replace('.', '/')}.py").read_text())
        found = {node.name: node for node in tree.body if isinstance(node, ast.FunctionDef)}
        for name in names:
            for argument in (*found[name].args.args, *found[name].args.kwonlyargs):
                annotation = ast.unparse(argument.annotation) if argument.annotation else ""
                if annotation in ("Path", "Path | None"):
                    only_paths.append(f"{module}.{name}({argument.arg})")
    assert only_paths == []


@pytest.mark.parametrize(
    "path",
    [*sorted((ROOT / "benchmarks").rglob("*.py")), *sorted((ROOT / "examples").rglob("*.py"))],
    ids=lambda p: str(p.relative_to(ROOT)),
)
def test_scripts_import_what_exists(path: Path) -> None:
    """No other test runs them, and the type checker does not see them."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] == "tsdsr":
            module = import_module(node.module or "")
            for alias in node.names:
                is_module = hasattr(module, "__path__") and find_spec(f"{node.module}.{alias.name}") is not None
                assert is_module or hasattr(module, alias.name), f"{node.module} has no {alias.name}"
