"""The page of the trainer's settings, from the dataclasses that a recipe is made of. Needs torch."""

from __future__ import annotations

import dataclasses
import inspect
import re
from collections.abc import Iterator
from typing import Any, get_args, get_type_hints

import griffe

from docs_tools.reference.markdown import code, docstring, made_from, prose, settings_table, value
from tsdsr.field_checks import describe_kind
from tsdsr.training.config import StudentConfig, TeacherConfig

INTRODUCTION = """# Settings of the trainer

A [recipe](recipes.md) is a `StudentConfig` or a `TeacherConfig`. `--set` changes a setting by its path:
`--set ema_decay=0.99`, `--set phases.0.steps=100`. Values are JSON. `--dry-run` prints all settings of a run.

If a setting takes a number or two of them, the two are its values at the start and the end of a phase.
"""


def pages() -> dict[str, str]:
    """Return the page: path below docs/ → text."""
    parts = [made_from("src/tsdsr/training/config.py and src/tsdsr/data"), INTRODUCTION]
    for kind in settings_classes():
        parts += [f"## {kind.__name__}\n", _introduction(kind), _table(kind)]
    return {"reference/settings.md": "\n".join(parts)}


def settings_classes() -> list[type]:
    """Return the dataclasses that a recipe can contain, in the order in which they are met."""
    found: list[type] = []

    def visit(kind: Any) -> None:
        if isinstance(kind, type) and dataclasses.is_dataclass(kind) and kind not in found:
            found.append(kind)
            for hint in get_type_hints(kind, include_extras=True).values():
                visit(hint)
        for part in get_args(kind):
            visit(part)

    visit(StudentConfig)
    visit(TeacherConfig)
    return found


def descriptions(kind: type) -> dict[str, str]:
    """Return what the docstrings of a dataclass and of its bases say of each field, as Markdown."""
    found: dict[str, str] = {}
    for base in reversed(kind.__mro__):
        for section in _sections(base):
            if section.kind is griffe.DocstringSectionKind.attributes:
                found |= {item.name: docstring(" ".join(item.description.split())) for item in section.value}
    return found


def _sections(kind: type) -> list[griffe.DocstringSection]:
    return griffe.Docstring(inspect.getdoc(kind) or "", parser="google").parse(warnings=False)


def _introduction(kind: type) -> str:
    return "\n\n".join(docstring(s.value) for s in _sections(kind) if s.kind is griffe.DocstringSectionKind.text) + "\n"


def _table(kind: type) -> str:
    return settings_table("Setting", _rows(kind))


def _rows(kind: type) -> Iterator[tuple[str, str, str, str]]:
    hints, texts = get_type_hints(kind, include_extras=True), descriptions(kind)
    for field in dataclasses.fields(kind):
        if field.name not in texts:
            raise ValueError(f"{kind.__name__}.{field.name}: its docstring has no line of its own")
        meaning = texts[field.name]
        required = field.default is field.default_factory is dataclasses.MISSING
        name = code(field.name) + (" (required)" if required else "")
        yield name, values(hints[field.name]), default(field), meaning[:1].upper() + meaning[1:]


def values(kind: Any) -> str:
    """Return what a setting may be as Markdown: the words of the error messages, shortened for a table."""
    text = prose(describe_kind(kind)).replace(" and at most 2,147,483,647", "")
    text = re.sub(r"a group of settings \((\w+)\)", lambda match: f"[`{match[1]}`](#{match[1].lower()})", text)
    text = re.sub(r"^(a finite number.*) or a list of 2: each \1$", r"\1, or two of them", text)
    text = re.sub(r"\ba (?:finite )?(number|whole number|text)", r"\1", text)
    return (
        text.replace("a list, each a list of 2: ", "list of pairs: ")
        .replace("a list of ", "list of ")
        .replace("a list, each ", "list, each ")
    )


def default(field: dataclasses.Field[Any]) -> str:
    """Return the default of a field as Markdown; empty if there is none."""
    if field.default is not dataclasses.MISSING:
        return value(field.default) if not dataclasses.is_dataclass(field.default) else "its own defaults"
    if field.default_factory is not dataclasses.MISSING:
        made = field.default_factory()
        return (
            f"[`{type(made).__name__}`](#{type(made).__name__.lower()})"
            if dataclasses.is_dataclass(made)
            else value(made)
        )
    return ""
