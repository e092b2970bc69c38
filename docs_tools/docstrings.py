r"""Sphinx roles in docstrings as links of the site: an extension of griffe, which reads the docstrings.

``:class:`Name``` becomes a link where ``Name`` has an entry on a page, else plain code. ``:math:`x``` becomes ``$x$``.
The ``::`` before an indented block goes: Markdown needs none.
"""

from __future__ import annotations

import re
from typing import Any

import griffe

ROLE = re.compile(r":(?:class|func|mod|meth|attr|data|exc):`(~?)([\w.]+)`")
LITERAL = re.compile(r"^::\n|(?<=\w)::$", re.MULTILINE)
MATH = re.compile(r":math:`([^`]+)`")


class SphinxRoles(griffe.Extension):
    """Rewrites the docstring of every object."""

    def on_object(self, *, obj: griffe.Object, loader: griffe.GriffeLoader, **kwargs: Any) -> None:
        """Replace the roles in the docstring of ``obj``."""
        if obj.docstring is None:
            return

        def link(match: re.Match[str]) -> str:
            name = match[2].rsplit(".", 1)[-1] if match[1] else match[2]
            return f'<autoref optional identifier="{full_path(obj, match[2])}"><code>{name}</code></autoref>'

        text = MATH.sub(lambda match: f"${' '.join(match[1].split())}$", obj.docstring.value)
        text = LITERAL.sub(lambda match: "" if match[0].endswith("\n") else ":", text)
        obj.docstring.value = ROLE.sub(link, text)


def full_path(obj: griffe.Object, name: str) -> str:
    """Return the path of what ``name`` means in the docstring of ``obj``; a name that nothing has stays as it is."""
    first, _, rest = name.partition(".")
    try:
        path = obj.resolve(first)
    except (griffe.NameResolutionError, griffe.BuiltinModuleError):
        return name
    return f"{path}.{rest}" if rest else path
