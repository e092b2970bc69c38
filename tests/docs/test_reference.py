"""Pages that are made from the code are those of the code."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from docs_tools.reference.__main__ import DOCS, all_pages
from docs_tools.reference.command_line import FOLDER, read_commands, read_parameters
from docs_tools.reference.markdown import prose, table

from tsdsr.cli import app
from tsdsr.recipes import RECIPES

SOURCE = DOCS.parent / "src" / "tsdsr"


@pytest.fixture(scope="module")
def pages() -> dict[str, str]:
    return all_pages()


def test_the_generated_pages_are_current(pages: dict[str, str]) -> None:
    stale = [name for name, text in pages.items() if (DOCS / name).read_text("utf-8") != text]
    assert stale == [], 'run "make reference" and commit what it writes'
    generated = {path.relative_to(DOCS).as_posix() for path in (DOCS / FOLDER).iterdir()}
    assert generated == {name for name in pages if name.startswith(FOLDER)}


def test_every_option_of_every_command_is_on_its_page(pages: dict[str, str]) -> None:
    for command in read_commands(app):
        for inner in command.commands or (command,):
            assert inner.function is not None
            for parameter in read_parameters(inner.function):
                rows = re.findall(r"^\| ([^|]*) \|", pages[f"{FOLDER}/{command.name}.md"], re.MULTILINE)
                shown = ", ".join(f"`{name}`" for name in parameter.names)
                assert any(row.removesuffix(" (required)") == shown for row in rows), (command.name, shown)


def test_every_variable_of_the_package_is_on_the_page_of_the_command_line(pages: dict[str, str]) -> None:
    texts = [path.read_text("utf-8") for path in Path(SOURCE).rglob("*.py")]
    named = {name for text in texts for name in re.findall(r"\bTSDSR_[A-Z]+\b", text)}
    assert {"TSDSR_CACHE", "TSDSR_TOKEN"} <= named
    assert all(f"`{name}`" in pages[f"{FOLDER}/index.md"] for name in named)


def test_every_recipe_is_on_the_page_of_the_recipes(pages: dict[str, str]) -> None:
    page = pages["reference/recipes.md"]
    for name in RECIPES:
        base, _, ending = name.partition("_dasm_") if "_dasm_" in name else name.partition("_no_")
        assert f"## {name}\n" in page or (f"## {base}\n" in page and f"{ending}` |" in page), name


def test_help_texts_are_no_markup() -> None:
    text = prose("Set --tile to 'auto' or a_b*c, or NAME[@REVISION], or <file>; see 'tsdsr info'. Don't use it.")
    assert text == (
        "Set `--tile` to `auto` or a\\_b\\*c, or NAME\\[@REVISION], or \\<file>; see `tsdsr info`. Don't use it."
    )
    assert table(("a",), [("x|y",)]) == "| a |\n| --- |\n| x\\|y |\n"
