"""The steps of a page: the commands and snippets that a reader types, one after the other."""

from __future__ import annotations

import dataclasses
import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.docs.pages import Block, blocks_of


@dataclass(frozen=True)
class Step:
    """A command of a block of commands, or a whole block of Python.

    Attributes:
        page (Path): where it stands.
        line (int): number of its first line, from 1.
        language (str): "sh" or "python".
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

    A block of output belongs to the last step of the block right before it; between them may stand "… you see:".
    """
    steps: list[Step] = []
    lines = page.read_text().splitlines()
    before: Block | None = None
    for block in blocks_of(page):
        if block.language == "python":
            steps.append(Step(page, block.line, "python", block.text))
        elif block.language == "sh":
            steps += [Step(page, line, "sh", text) for line, text in commands_of(block)]
        elif block.language == "text" and before is not None and before.language in ("sh", "python"):
            between = " ".join(lines[before.end_line : block.start_line - 1]).strip()
            if re.fullmatch(r"|[^#]*\byou see:", between):
                steps[-1] = dataclasses.replace(steps[-1], shown=block.text)
        before = block
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
