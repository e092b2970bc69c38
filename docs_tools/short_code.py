"""Code that a line must not break: names, options and short commands get the class ``short``.

A browser breaks a line after a hyphen, so ``--output`` would end up as ``--`` and ``output``.
"""

from __future__ import annotations

from typing import Any
from xml.etree.ElementTree import Element

from markdown import Extension, Markdown
from markdown.treeprocessors import Treeprocessor

LONGEST = 24
"""Characters that always fit into a line of a phone, also in a cell of a table."""


class _Marking(Treeprocessor):
    def run(self, root: Element) -> None:
        """Mark the code of one page; code blocks are not in its tree."""
        for element in root.iter("code"):
            if len(element.text or "") <= LONGEST:
                element.set("class", "short")


class ShortCodeExtension(Extension):
    """The extension for Python-Markdown."""

    def extendMarkdown(self, md: Markdown) -> None:  # noqa: N802
        """Register the marking, after inline code has been read."""
        md.treeprocessors.register(_Marking(md), "short_code", 15)


def makeExtension(**settings: Any) -> ShortCodeExtension:  # noqa: N802
    """Create the extension; Python-Markdown calls this."""
    return ShortCodeExtension(**settings)
