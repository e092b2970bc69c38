"""Files from outside docs/ as part of a page: ``<!-- include: CHANGELOG.md -->``.

The path starts at the root of the repository. A comment shows nothing on GitHub, where the file itself can be read.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

from markdown import Extension, Markdown
from markdown.preprocessors import Preprocessor
from zensical.extensions.context import ContextPreprocessor

INCLUDE = re.compile(r"<!-- include: (\S+) -->")
LINK = re.compile(r"\]\((?![a-z]+:|#)([^)\s#]+)")
FRONT_MATTER = re.compile(r"\A---\n.*?\n---\n", re.DOTALL)
TITLE = re.compile(r"\A\s*# .*\n")


class Inclusion(Preprocessor):
    """Replace each comment by the text of the file, without its title and front matter."""

    def run(self, lines: list[str]) -> list[str]:
        """Return the lines of a page with those of the files that it includes."""
        context = ContextPreprocessor.from_markdown(self.md)
        if context is None:
            return lines
        root, docs = Path(context.config["root_dir"]), Path(context.config["docs_dir"])
        page = root / docs / context.page.path
        return [part for line in lines for part in included(line, root, page)]


def included(line: str, root: Path, page: Path) -> list[str]:
    """Return the lines of the file that a line includes, or the line itself."""
    match = INCLUDE.fullmatch(line.strip())
    if match is None:
        return [line]
    file = root / match[1]
    text = TITLE.sub("", FRONT_MATTER.sub("", file.read_text("utf-8")))

    def relative(link: re.Match[str]) -> str:
        return "](" + Path(os.path.relpath(file.parent / link[1], page.parent)).as_posix()

    return LINK.sub(relative, text).splitlines()


class InclusionExtension(Extension):
    """Includes files before anything else reads the page."""

    def extendMarkdown(self, md: Markdown) -> None:  # noqa: N802
        """Register the preprocessor."""
        md.preprocessors.register(Inclusion(md), "inclusion", 100)


def makeExtension(**settings: Any) -> InclusionExtension:  # noqa: N802
    """Create the extension; Python-Markdown calls this."""
    return InclusionExtension(**settings)
