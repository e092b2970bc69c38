"""Tables for terminals, pipes and files of any width and encoding. Nothing is cut off."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderResult
from rich.table import Table
from rich.text import Text

_ASCII = str.maketrans({"↑": "^", "↓": "v", "…": "..."})
_SIDES = 3  # width of a column's padding and rule
_LEAST_LABEL = 8


def printable(text: str) -> str:
    """Replace control characters and bytes that are not Unicode, as file names may have, by escapes."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape", "backslashreplace").decode() for c in text)


class FittedTable:
    """A table that is split into several, below each other, where it is wider than the console.

    Args:
        columns (sequence of str): headings with rich's markup; the first column holds labels and is repeated.
        rows (sequence): cells with markup and line breaks, as many as ``columns``.
        title (str): line above the table.
        caption (str): line below it.
        sections (sequence of int): rows before which a rule is drawn.
    """

    def __init__(
        self,
        columns: Sequence[str],
        rows: Sequence[Sequence[str]],
        title: str = "",
        caption: str = "",
        sections: Sequence[int] = (),
    ) -> None:
        self.columns, self.rows, self.title, self.caption, self.sections = columns, rows, title, caption, sections

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        encoding = options.encoding
        header = [_text(cell, encoding) for cell in self.columns]
        rows = [[_text(cell, encoding) for cell in row] for row in self.rows]
        widths = [_width(column) for column in zip(header, *rows, strict=True)]
        room = options.max_width - 1
        widest = max(widths[1:], default=0)
        label = min(widths[0], max(_LEAST_LABEL, room - 2 * _SIDES - widest))
        if self.title:
            yield _text(self.title, encoding)
        for group in _groups(widths, room - label - _SIDES):
            table = Table(highlight=False)
            for k in (0, *group):
                width = label if k == 0 else None
                table.add_column(header[k], justify="left" if k == 0 else "right", max_width=width, overflow="fold")
            for number, row in enumerate(rows):
                if number in self.sections:
                    table.add_section()
                table.add_row(*(row[k] for k in (0, *group)))
            yield table
        if self.caption:
            yield _text(self.caption, encoding)


class Lines:
    """Plain text, one paragraph per line, wrapped to the console."""

    def __init__(self, lines: Sequence[str]) -> None:
        self.lines = lines

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        for line in self.lines:
            yield Text(encodable(line, options.encoding), overflow="fold")


def encodable(text: str, encoding: str) -> str:
    """Replace what an encoding does not have: arrows by ^ and v, other characters by escapes."""
    try:
        text.encode(encoding)
    except UnicodeEncodeError:
        return text.translate(_ASCII).encode(encoding, "backslashreplace").decode(encoding)
    return text


def _text(markup: str, encoding: str) -> Text:
    return Text.from_markup(encodable(markup, encoding), overflow="fold")


def _width(cells: Sequence[Text]) -> int:
    return max(cell_len(line) for cell in cells for line in (cell.plain.splitlines() or [""]))


def _groups(widths: Sequence[int], room: int) -> Iterator[list[int]]:
    """Divide the columns after the first into groups that fit; a group has one column at least."""
    group: list[int] = []
    used = 0
    for k, width in enumerate(widths[1:], 1):
        if group and used + width + _SIDES > room:
            yield group
            group, used = [], 0
        group.append(k)
        used += width + _SIDES
    yield group
