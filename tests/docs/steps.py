"""The steps of a page: the commands and snippets that a reader types, one after the other."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.docs.pages import Block, blocks_of

WINDOWS = ("bat", "powershell")
"""Languages of commands for Windows."""


@dataclass(frozen=True)
class Step:
    """A command of a block of commands, or a whole block of Python.

    Attributes:
        page (Path): where it stands.
        line (int): number of its first line, from 1.
        language (str): "sh", "python", or one of Windows' shells.
        text (str): as typed; lines that continue are joined.
        shown (str): what the page shows as its output, or nothing.
    """

    page: Path
    line: int
    language: str
    text: str
    shown: str = ""


def steps_of(page: Path) -> list[Step]:
    """Return the steps of a page in their order.

    A block of output belongs to the last step of the block right before it.
    """
    steps: list[Step] = []
    end = 0
    for block in blocks_of(page):
        if block.language == "text":
            if steps and block.start_line - end <= 2:
                steps[-1] = Step(**{**vars(steps[-1]), "shown": block.text})
        elif block.language == "python":
            steps.append(Step(page, block.line, "python", block.text))
        elif block.language in ("sh", *WINDOWS):
            steps += [Step(page, line, block.language, text) for line, text in commands_of(block)]
        if block.language != "text":
            end = block.end_line
    return steps


def commands_of(block: Block) -> Iterator[tuple[int, str]]:
    """Yield line number and text of each command: lines are joined until what they open is closed."""
    begun: list[str] = []
    start = block.line
    for number, line in enumerate(block.text.splitlines(), block.line):
        if not begun and (not line.strip() or line.lstrip().startswith("#")):
            continue
        start = start if begun else number
        begun.append(line)
        if is_complete(text := "\n".join(begun)):
            yield start, without_comment(re.sub(r"\s*\\\n\s*", " ", text)).strip()
            begun = []
    assert not begun, f"line {start}: this command has no end"


def is_complete(text: str) -> bool:
    """Tell if nothing is open in a command: a quote, a loop, a document for its input, a line that continues."""
    try:
        words = shlex.split(text, comments=True)
    except ValueError:
        return False
    opened = sum(word in ("for", "while", "until") for word in re.findall(r"(?:^|;|\n)\s*(\w+)", text))
    document = re.search(r"<<-?\s*'?(\w+)'?", text)
    ended = document is None or re.search(rf"^\s*{document[1]}$", text, re.MULTILINE) is not None
    return not text.endswith("\\") and ended and opened == sum(word.rstrip(";") == "done" for word in words)


def without_comment(text: str) -> str:
    """Return a command without the comment at its end."""
    return re.sub(r"""^((?:[^'"#]|(?<!\s)#|'[^']*'|"[^"]*")*?)\s#.*$""", r"\1", text)
