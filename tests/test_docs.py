"""The pages of the documentation: links, names, and commands that a reader types in their order."""

from __future__ import annotations

import ast
import importlib
import re
import shlex
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest
import typer

from tsdsr.cli import app
from tsdsr.models.zoo import SPECS
from tsdsr.pipeline.model_files import PACKAGED_MODELS

ROOT = Path(__file__).resolve().parents[1]
PAGES = sorted(
    [
        *(ROOT / "docs").rglob("*.md"),
        *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")),
        *(ROOT / "src" / "tsdsr").rglob("*.md"),
        *(ROOT / "integrations").rglob("*.md"),
    ]
)
each_page = pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))


MADE_BY_TSDSR = {"--model", "--teacher", "--init", "--cache", "--prompts", "--replay", "--run"}
"""Options whose values are made by a command."""


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
    for code in re.findall(r"```python\n(.*?)```", page.read_text(), re.DOTALL):
        for node in ast.walk(ast.parse(code)):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("tsdsr"):
                module = importlib.import_module(node.module or "")
                missing += [f"{node.module}.{a.name}" for a in node.names if not hasattr(module, a.name)]
    assert not missing


def test_the_equations_page_names_its_functions_and_tests() -> None:
    """Guards the check above against a page that it cannot read."""
    text = (ROOT / "docs" / "explanation" / "equations.md").read_text()
    assert len(re.findall(r"`[\w./]+\.py::[\w.]+`", text)) >= 30


def code_lines(page: Path) -> Iterator[str]:
    """Yield the lines of the blocks without a language, with continued lines joined."""
    text = page.read_text().replace("\\\n", " ")
    for language, block in re.findall(r"```(\w*)\n(.*?)```", text, re.DOTALL):
        if not language:
            yield from (line.strip() for line in block.splitlines())


def find_command(words: list[str]) -> tuple[Any, list[str]]:
    """Return the command that the words after ``tsdsr`` name, and its arguments."""
    command, words = typer.main.get_command(app), list(words)
    while words and words[0] in getattr(command, "commands", {}):
        command = command.commands[words.pop(0)]
    return command, words


def typed_commands(page: Path) -> list[list[str]]:
    """Return the ``tsdsr`` commands of a page in their order, as words after ``tsdsr``."""
    lines = [line for line in code_lines(page) if line.startswith("tsdsr ")]
    return [shlex.split(line, comments=True)[1:] for line in lines]


def options_of(words: list[str]) -> list[tuple[str, str]]:
    """Return pairs of option and value."""
    return [(a, b) for a, b in pairwise(words) if a.startswith("-")]


@each_page
def test_options_in_the_docs_exist(page: Path) -> None:
    prose = re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL)
    wrong = []
    for line in re.findall(r"`tsdsr ([^`]+)`", prose):
        command, words = find_command(line.split())
        if hasattr(command, "commands") and words and not words[0].startswith("-"):
            wrong.append(line)
        known = {option for p in command.params for option in (*p.opts, *p.secondary_opts)} | {"-h", "--help"}
        wrong += [f"{line}: {option}" for option in re.findall(r"(?<=\s)--?[a-z][a-z-]*", line) if option not in known]
    assert wrong == []


@each_page
def test_commands_in_the_docs_are_complete(page: Path) -> None:
    """Every command is parsed: the options exist, values are of their types, nothing required is missing."""
    wrong = []
    for words in typed_commands(page):
        command, arguments = find_command(words)
        try:
            command.make_context("tsdsr", arguments)
        except typer.BadParameter.__mro__[1] as error:
            wrong.append(f"{' '.join(words)}: {error}")
    assert wrong == []


@each_page
def test_what_commands_in_the_docs_use_exists_by_then(page: Path) -> None:
    """A model, cache or run is packaged, the reader's own (in capitals), on the hub, or made by an earlier command."""
    made: list[str] = []
    wrong = []
    for words in typed_commands(page):
        used = [(name, value.rstrip("/")) for name, value in options_of(words) if name in MADE_BY_TSDSR]
        used += [("model", words[1])] if words[0] == "fold" else []
        used += [("study", words[2].rstrip("/"))] if words[0] == "study" and words[1] != "create" else []
        for name, value in used:
            known = value in PACKAGED_MODELS or (words[0] in ("convert", "data") and value in SPECS)
            hub = words[:2] == ["data", "caption"] and re.fullmatch(r"[\w.-]+/[\w.-]+", value)
            earlier = any(value == place or value.startswith(f"{place}/") for place in made)
            if not (known or hub or earlier or re.fullmatch(r"[A-Z0-9_]+", value)):
                wrong.append(f"{' '.join(words)}: {name} {value}")
        made += [value.rstrip("/") for name, value in options_of(words) if name in ("-o", "--output")]
        made += [words[2].rstrip("/")] if words[:2] == ["study", "create"] else []
    assert wrong == []


@each_page
def test_no_command_in_the_docs_finds_its_result_already_made(page: Path) -> None:
    """The second of two commands with one output folder and input would have nothing to do."""
    seen = set()
    for words in typed_commands(page):
        outputs = [value for name, value in options_of(words) if name == "-o"]
        action = (*words[:2], *outputs)
        assert not outputs or action not in seen, action
        seen.add(action)


def extras() -> dict[str, str]:
    """Return the extras of the package and their requirements as written."""
    text = (ROOT / "pyproject.toml").read_text().partition("[project.optional-dependencies]")[2].partition("\n[")[0]
    found = dict(re.findall(r"^(\w+) = \[(.*?)\]\s*$", text, re.MULTILINE | re.DOTALL))
    assert {"train", "eval", "all", "dev"} <= set(found)
    return found


@each_page
def test_extras_in_the_docs_exist(page: Path) -> None:
    """The package is on no index: pip installs it from the checkout, ``.[extra]``."""
    text = page.read_text()
    assert "tsdsr[" not in text
    named = [name for names in re.findall(r"'\.\[([^\]]*)\]'", text) for name in names.split(",")]
    named += re.findall(r"\bthe extra `(\w+)`", text)
    assert set(named) <= set(extras())


def test_the_quickstart_lists_every_extra() -> None:
    table = re.findall(r"^\| (`\w+`.*?) \|", (ROOT / "docs" / "how-to" / "upscale.md").read_text(), re.MULTILINE)
    assert {name for row in table for name in re.findall(r"`(\w+)`", row)} == set(extras()) - {"all", "dev"}


def test_anchors_in_the_docs_exist() -> None:
    """``page.md#section``: the section's title in lower case, spaces as hyphens, without punctuation."""
    missing = []
    for page in PAGES:
        for name, anchor in re.findall(r"\]\(([^)\s:]*?)#([\w-]+)\)", page.read_text()):
            titles = re.findall(r"^#+ (.+)$", (page.parent / name if name else page).read_text(), re.MULTILINE)
            sections = {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}
            missing += [f"{page.name}: {name}#{anchor}"] if anchor not in sections else []
    assert not missing


def test_extras_in_error_messages_exist() -> None:
    named = set()
    for path in (ROOT / "src" / "tsdsr").rglob("*.py"):
        assert "tsdsr[" not in path.read_text(), path
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "install_extra":
                named |= {a.value for a in node.args if isinstance(a, ast.Constant)}
    assert {"train", "eval", "onnx"} <= named
    assert named <= set(extras())


def test_the_extra_all_and_make_install_bring_every_extra() -> None:
    """``make install`` installs the extra ``dev``."""
    found = extras()
    assert set(re.findall(r"\w+", found["all"])) - {"tsdsr"} == set(found) - {"all", "dev"}
    assert '"tsdsr[all]"' in found["dev"]
    assert '--editable ".[dev]"' in (ROOT / "Makefile").read_text()


def test_the_quickstart_says_how_to_train_and_what_that_needs() -> None:
    lines = list(code_lines(ROOT / "docs" / "how-to" / "upscale.md"))
    install = next(i for i, line in enumerate(lines) if "'.[train]'" in line)
    assert install < next(i for i, line in enumerate(lines) if line.startswith("tsdsr train"))
    assert "lpips" in extras()["train"]


def test_the_figures_of_mini_are_the_same_on_every_page() -> None:
    """Its model card's metadata and table, the README, and the page on evaluation."""
    card = (ROOT / "src" / "tsdsr" / "weights" / "mini" / "README.md").read_text()
    stored = re.findall(r"type: (\w+), value: ([\d.]+), name", card)
    figures = [value.removeprefix("0") for _, value in stored]
    assert [name for name, _ in stored] == ["psnr", "ssim", "lpips", "dists", "niqe"]

    def row(text: str, name: str) -> list[str]:
        (line,) = (line for line in text.splitlines() if line.lstrip().startswith(f"| {name} |"))
        return re.findall(r"[| *](\d*\.\d+)(?= \[| \||\*)", line)

    psnr, _, lpips, dists, niqe = figures
    assert row(card, "**mini v4**") == figures
    assert row((ROOT / "docs" / "how-to" / "evaluate.md").read_text(), "`mini` v4") == figures
    assert row((ROOT / "README.md").read_text(), "**mini**")[:4] == [psnr, lpips, dists, niqe]
