"""What a fault is."""

from __future__ import annotations

from typing import NamedTuple


class Fault(NamedTuple):
    """One replacement of text in one file.

    Attributes:
        what (str): the fault in a line; names it, too.
        file (str): below ``src/tsdsr``.
        old (str): text that occurs exactly once in the file.
        new (str): what takes its place.
    """

    what: str
    file: str
    old: str
    new: str
