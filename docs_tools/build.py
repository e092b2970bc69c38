"""Strict build of the site: ``python -m docs_tools.build``. Every fault is printed, and the exit status is 1.

Zensical's own strict mode looks at links and anchors in the text. This build also fails if a page is missing in the
navigation, if the navigation names a page that does not exist, if the reader of docstrings warns, if an equation cannot
be shown, or if anything that a built page names is missing.
"""

from __future__ import annotations

import argparse
import logging
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import tomli
import zensical

from docs_tools.built_pages import link_faults

NESTED = re.compile(r" {1,3}([-*]|\d+\.) ")
ITEM = re.compile(r"([-*]|1\.) ")
PARAGRAPH = re.compile(r"[^\s\-*#|<>\d]")
"""Beginnings of lines: of an item in a list within a list, of an item, of a paragraph."""


class Warnings(logging.Handler):
    """Collects the warnings of the libraries that render the pages."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.messages: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Note a message once."""
        if (message := record.getMessage()) not in self.messages:
            self.messages.append(message)


def main() -> None:
    """Build the site of a configuration and exit."""
    parser = argparse.ArgumentParser(description="Build the site of the documentation; any fault is an error.")
    parser.add_argument("--config", type=Path, default=Path("zensical.toml"), help="configuration of Zensical")
    sys.exit(1 if build(parser.parse_args().config) else 0)


def build(config: Path) -> list[str]:
    """Build the site, print its faults and return them.

    Args:
        config: a ``zensical.toml``. Its folder holds ``docs_dir`` and ``site_dir``.
    """
    settings = tomli.loads(config.read_text("utf-8"))["project"]
    docs, site = config.parent / settings["docs_dir"], config.parent / settings["site_dir"]
    faults = [*navigation_faults(settings["nav"], docs), *list_faults(docs)]
    warnings = Warnings()
    logging.getLogger().addHandler(warnings)
    try:
        zensical.build(str(config.absolute()), {"strict": True, "clean": True})
    except Exception as error:  # Zensical wraps what an extension raises in its own classes
        faults.append(str(error))
    finally:
        logging.getLogger().removeHandler(warnings)
    faults += [*warnings.messages, *link_faults(site)]
    if not (site / "index.html").is_file():
        faults.append(f"{site / 'index.html'} was not made")
    for fault in faults:
        print(f"error: {fault}", file=sys.stderr)
    if not faults:
        print(f"The site is built. Open {site / 'index.html'}")
    return faults


def navigation_faults(nav: list[Any], docs: Path) -> Iterator[str]:
    """Yield a sentence for each page that is in the navigation or in ``docs`` only, or twice in the navigation."""
    named = list(named_pages(nav))
    present = {path.relative_to(docs).as_posix() for path in docs.rglob("*.md")}
    for page in sorted({page for page in named if named.count(page) > 1}):
        yield f"{page} is twice in the navigation"
    for page in sorted(set(named) - present):
        yield f"{page} is in the navigation and does not exist"
    for page in sorted(present - set(named)):
        yield f"{page} is not in the navigation of zensical.toml"


def list_faults(docs: Path) -> Iterator[str]:
    """Yield a sentence for each list that GitHub shows and the site does not: Python-Markdown wants more space."""
    for path in sorted(docs.rglob("*.md")):
        fenced, before = False, ""
        for number, line in enumerate(path.read_text("utf-8").splitlines(), 1):
            fenced ^= line.lstrip().startswith("```")
            where = f"{path.relative_to(docs).as_posix()}:{number}"
            if not fenced and NESTED.match(line):
                yield f"{where}: indent a list within a list by four spaces"
            elif not fenced and ITEM.match(line) and PARAGRAPH.match(before):
                yield f"{where}: leave a line free before a list"
            before = line


def named_pages(nav: list[Any]) -> Iterator[str]:
    """Yield the pages of a navigation in their order."""
    for entry in nav:
        for value in entry.values() if isinstance(entry, dict) else [entry]:
            if isinstance(value, str):
                yield value
            else:
                yield from named_pages(value)


if __name__ == "__main__":
    main()
