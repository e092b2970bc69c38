"""Comparison of what a page shows as output with what is printed."""

from __future__ import annotations

import re

UNITS = {"s", "ms", "min", "h", "B", "kB", "KB", "MB", "GB", "TB", "x"}
"""Words behind numbers, which change with them."""


def words_of(line: str) -> list[str]:
    """Return the words of a line that are the same on every machine and for any number of files."""
    return [word.lower().removesuffix("s") for word in re.findall(r"[^\W\d_]+", line) if word not in UNITS]


def missing_lines(shown: str, printed: str) -> list[str]:
    """Return the lines of a page's output whose words are in no line of what was printed, in their order.

    Numbers differ from machine to machine. A line with an ellipsis is cut short.
    """
    there = [words_of(line) for line in printed.splitlines()]
    missing = []
    for line in shown.splitlines():
        wanted = words_of(re.sub(r"\S*(?:…|\.\.\.)\S*", "", line))
        if not any(_contains(found, wanted) for found in there) and wanted:
            missing.append(line)
    return missing


def _contains(found: list[str], wanted: list[str]) -> bool:
    rest = iter(found)
    return all(word in rest for word in wanted)
