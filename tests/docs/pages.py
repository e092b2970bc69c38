"""The pages of the documentation and the blocks of code in them."""

from __future__ import annotations

import re
import shlex
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import typer

from tsdsr.cli import app

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted(
    [
        *(ROOT / "docs").rglob("*.md"),
        *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")),
        *(ROOT / "src" / "tsdsr").rglob("*.md"),
        *(ROOT / "integrations").rglob("*.md"),
    ]
)
each_page = pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))


@dataclass(frozen=True)
class Block:
    """A fenced block of code; ``line`` is the number of its first line in the page, from 1."""

    language: str
    line: int
    text: str

    @property
    def start_line(self) -> int:
        """Number of the line with the opening fence."""
        return self.line - 1

    @property
    def end_line(self) -> int:
        """Number of the line with the closing fence."""
        return self.line + self.text.count("\n")


def blocks_of(page: Path) -> list[Block]:
    """Return the fenced blocks of a page in their order, without the indentation of lists."""
    text = page.read_text()
    return [
        Block(match[2], text.count("\n", 0, match.start(3)) + 1, textwrap.dedent(match[3]))
        for match in re.finditer(r"^( *)```([\w-]*)[^\n`]*\n(.*?)^ *```", text, re.DOTALL | re.MULTILINE)
    ]


def code_lines(page: Path) -> Iterator[str]:
    """Yield the lines that a reader types into a shell, with continued lines joined."""
    for block in blocks_of(page):
        if block.language == "sh":
            yield from (line.strip() for line in block.text.replace("\\\n", " ").splitlines())


@cache
def _whole_command() -> Any:
    return typer.main.get_command(app)


def find_command(words: list[str]) -> tuple[Any, list[str]]:
    """Return the command that the words after ``tsdsr`` name, and its arguments."""
    command, words = _whole_command(), list(words)
    while words and words[0] in getattr(command, "commands", {}):
        command = command.commands[words.pop(0)]
    return command, words


def typed_commands(page: Path, launched: bool = False) -> list[list[str]]:
    """Return the ``tsdsr`` commands of a page in their order, as words after ``tsdsr``.

    Args:
        page (Path): the page.
        launched (bool): also those that another program launches, as ``torchrun`` does.
    """
    before = r"(?:.* -m )?" if launched else ""
    found = [re.match(rf"(?:\w+=\S+ )*{before}tsdsr (.*)", line) for line in code_lines(page)]
    return [shlex.split(match[1].partition("|")[0], comments=True) for match in found if match]


def extras() -> dict[str, str]:
    """Return the extras of the package and their requirements as written."""
    text = (ROOT / "pyproject.toml").read_text().partition("[project.optional-dependencies]")[2].partition("\n[")[0]
    found = dict(re.findall(r"^(\w+) = \[(.*?)\]\s*$", text, re.MULTILINE | re.DOTALL))
    assert {"train", "eval", "all", "dev"} <= set(found)
    return found
