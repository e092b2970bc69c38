"""Parts of generated pages: tables, values, and texts of the code as Markdown."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Iterable, Sequence
from typing import Any

ROLE = re.compile(r":\w+:`~?(?:[\w.]*\.)?(\w+)`")
QUOTED = re.compile(r"(?<![\w`])'([^'\s](?:[^']*[^'\s])?)'(?!\w)|(?<![\w`/-])(--?[a-zA-Z][\w-]*)(?![\w`])")


def made_from(source: str) -> str:
    """Return the comment at the top of a generated page; readers do not see it."""
    return f'<!-- Made by "make reference" from {source}: change it there. -->\n'


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table. Cells are Markdown on one line."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines) + "\n"


def settings_table(kind: str, rows: Iterable[Sequence[str]]) -> str:
    """Return a table of settings: name, value, default, meaning. On a phone the site shows each row as a paragraph.

    Args:
        kind: what the first column names, such as ``Option``.
        rows: cells as Markdown on one line.
    """
    return f'<div class="settings" markdown>\n\n{table((kind, "Value", "Default", "Meaning"), rows)}\n</div>\n'


def code(text: object) -> str:
    """Return a text as code, also one with backticks or bars in it."""
    return f"`` {text} ``" if "`" in str(text) else f"`{text}`"


def prose(text: str) -> str:
    """Return a help text as Markdown: what it quotes, and options, become code; what looks like markup does not."""
    escaped = re.sub(r"([*_<\[])", r"\\\1", text)
    return QUOTED.sub(lambda match: code(re.sub(r"\\([*_<\[])", r"\1", match[1] or match[2])), escaped)


def docstring(text: str) -> str:
    """Return a docstring as Markdown. References become code; there is no page that they could lead to."""
    return ROLE.sub(r"`\1`", text).replace("``", "`")


def value(setting: Any) -> str:
    """Return the value of a setting as ``--set`` takes it, as code."""
    whole = dataclasses.is_dataclass(setting) and not isinstance(setting, type)
    plain = dataclasses.asdict(setting) if whole else setting
    return code(json.dumps(plain, ensure_ascii=False))
