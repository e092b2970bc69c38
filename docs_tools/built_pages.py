"""Faults of the built site: links, anchors and pictures that lead nowhere."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit


@dataclass
class BuiltPage(HTMLParser):
    """What a page of the site names.

    Attributes:
        targets: values of ``href`` and ``src``.
        anchors: values of ``id``, and of ``name`` of links.
    """

    targets: list[str] = field(default_factory=list)
    anchors: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        super().__init__()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note what the attributes of a tag name."""
        for name, value in attrs:
            if name in ("href", "src") and value and tag != "base":
                self.targets.append(value)
            elif (name == "id" or (name == "name" and tag == "a")) and value:
                self.anchors.add(value)


def read_page(path: Path) -> BuiltPage:
    """Read a page of the built site."""
    page = BuiltPage()
    page.feed(path.read_text("utf-8"))
    return page


def link_faults(site: Path) -> Iterator[str]:
    """Yield a sentence for each link, picture or file that a page names and the site lacks.

    Args:
        site: folder of the built site.
    """
    site = site.resolve()
    pages = {path: read_page(path) for path in sorted(site.rglob("*.html")) if path.name != "404.html"}
    for path, page in pages.items():
        for target in dict.fromkeys(page.targets):
            parts = urlsplit(target)
            if parts.scheme or parts.netloc:
                continue
            file = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            file = file / "index.html" if file.is_dir() else file
            if not file.is_relative_to(site):
                yield f"{path.relative_to(site)}: {target} leads out of docs/; name the file in backticks instead"
            elif not file.is_file():
                yield f"{path.relative_to(site)}: {target} does not exist"
            elif parts.fragment and file in pages and unquote(parts.fragment) not in pages[file].anchors:
                yield f"{path.relative_to(site)}: {target}: there is no such heading"
