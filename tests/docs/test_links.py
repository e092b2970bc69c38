"""Links, files and names in the pages of the documentation."""

from __future__ import annotations

import ast
import importlib
import re
from pathlib import Path
from urllib.parse import unquote

from tests.docs.pages import PAGES, ROOT, blocks_of, each_page


def find_file(page: Path, name: str) -> Path | None:
    """Find a file named in a page: relative to the page, the repository or the package."""
    candidates = (page.parent / name, ROOT / name, ROOT / "src" / "tsdsr" / name)
    return next((path for path in candidates if path.is_file()), None)


def defined_names(path: Path) -> set[str]:
    """Return the functions, classes, methods (``Class.method``) and constants that a file defines."""
    names: set[str] = set()
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            names.add(node.name)
        if isinstance(node, ast.ClassDef):
            names |= {f"{node.name}.{item.name}" for item in node.body if isinstance(item, ast.FunctionDef)}
        if isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            names |= {target.id for target in targets if isinstance(target, ast.Name)}
    return names


@each_page
def test_links_in_the_docs_resolve(page: Path) -> None:
    links = re.findall(r"\]\(([^)\s]+)\)", page.read_text())
    missing = [link for link in links if "://" not in link and not (page.parent / unquote(link.split("#")[0])).exists()]
    assert not missing, f"{page.relative_to(ROOT)} links to what is not there"


def test_anchors_in_the_docs_exist() -> None:
    """``page.md#section``: the section's title in lower case, spaces as hyphens, without punctuation."""
    missing = []
    for page in PAGES:
        for name, anchor in re.findall(r"\]\(([^)\s:]*?)#([\w-]+)\)", page.read_text()):
            titles = re.findall(r"^#+ (.+)$", (page.parent / name if name else page).read_text(), re.MULTILINE)
            sections = {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}
            missing += [f"{page.name}: {name}#{anchor}"] if anchor not in sections else []
    assert not missing


@each_page
def test_files_and_functions_named_in_the_docs_exist(page: Path) -> None:
    """Backticked `path.py`, `path.md` and `path.py::name`; a path without a folder may be an example."""
    wrong = []
    for name, function in re.findall(r"`([\w./-]+\.(?:py|md))(?:::([\w.]+))?`", page.read_text()):
        path = find_file(page, name)
        if path is None:
            wrong += [name] if "/" in name or function else []
        elif function and function not in defined_names(path):
            wrong.append(f"{name}::{function}")
    assert not wrong


@each_page
def test_names_imported_in_the_docs_exist(page: Path) -> None:
    missing = []
    for block in blocks_of(page):
        for node in ast.walk(ast.parse(block.text if block.language == "python" else "")):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("tsdsr"):
                module = importlib.import_module(node.module or "")
                missing += [f"{node.module}.{a.name}" for a in node.names if not hasattr(module, a.name)]
    assert not missing


def test_the_equations_page_names_its_functions_and_tests() -> None:
    """Guards the check above against a page that it cannot read."""
    text = (ROOT / "docs" / "explanation" / "equations.md").read_text()
    assert len(re.findall(r"`[\w./]+\.py::[\w.]+`", text)) >= 30
