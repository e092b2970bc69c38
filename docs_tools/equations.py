r"""Equations of the pages as MathML, so that the site needs no script for them.

GitHub renders the same notation: ``$…$`` within a line, and fences with the language ``math``.
"""

from __future__ import annotations

import html
import re
from typing import Any

import latex2mathml.converter
from markdown import Extension, Markdown
from markdown.inlinepatterns import InlineProcessor

INLINE = r"(?<![\\$\w])\$(?![\s$])([^$\n]+?(?:\n[^$\n]+?)?)(?<![\s\\])\$(?![\d$])"
"""An equation touches its dollar signs, so that ``2.50 $ an hour`` is none. It may continue on the next line."""


class InlineEquation(InlineProcessor):
    """Turn ``$…$`` into MathML."""

    def handleMatch(self, match: re.Match[str], data: str) -> tuple[str, int, int]:  # noqa: N802
        """Return a placeholder of the MathML, and what it replaces."""
        stored = self.md.htmlStash.store(to_mathml(match[1], "inline"))
        return stored, match.start(0), match.end(0)


class EquationsExtension(Extension):
    """Equations within lines. Those in fences are given to :func:`format_fence` by pymdownx.superfences."""

    def extendMarkdown(self, md: Markdown) -> None:  # noqa: N802
        """Register the pattern: after code, before the backslash escapes."""
        md.inlinePatterns.register(InlineEquation(INLINE, md), "equation", 185)


def makeExtension(**settings: Any) -> EquationsExtension:  # noqa: N802
    """Create the extension; Python-Markdown calls this."""
    return EquationsExtension(**settings)


def format_fence(source: str, language: str, class_name: str, options: Any, md: Markdown, **_: Any) -> str:
    """Turn the text of a fence into MathML on its own line."""
    return f'<div class="equation" tabindex="0">{to_mathml(source, "block")}</div>'


def to_mathml(latex: str, display: str) -> str:
    """Convert LaTeX to MathML.

    Args:
        latex: the equation, without its delimiters.
        display: "inline" or "block".

    Raises:
        ValueError: a brace has no partner, or the converter does not know a command.
    """
    braces = re.sub(r"\\.", "", latex, flags=re.DOTALL)
    if braces.count("{") != braces.count("}"):
        raise ValueError(f"a brace has no partner in the equation {latex.strip()}")
    mathml: str = latex2mathml.converter.convert(" ".join(latex.split()), display=display)
    if unknown := re.search(r"\\[A-Za-z]+", html.unescape(mathml)):
        raise ValueError(f"{unknown[0]} is no command that the site can show, in the equation {latex.strip()}")
    return mathml
