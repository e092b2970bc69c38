"""The pages of the command line, from the functions that typer calls. Only the core dependencies are imported.

The signatures are read, not click's parameters, whose classes differ between versions of typer.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin, get_type_hints

import typer
from typer.models import ArgumentInfo, OptionInfo

from docs_tools.reference.markdown import code, made_from, prose, settings_table, table
from tsdsr.cli import app

FOLDER = "reference/command-line"
KINDS = {str: "text", int: "whole number", float: "number", Path: "path", bool: ""}


@dataclass(frozen=True)
class Command:
    """A command, or a group of commands.

    Attributes:
        name: as typed after ``tsdsr``.
        text: what its help says.
        function: what is called; None for a group.
        commands: those of a group.
    """

    name: str
    text: str
    function: Callable[..., object] | None = None
    commands: tuple[Command, ...] = ()


@dataclass(frozen=True)
class Parameter:
    """An argument or option of a command.

    Attributes:
        names: of an option, such as ``-o`` and ``--output``; of an argument its placeholder.
        is_option: whether it is an option.
        is_flag: whether it takes no value.
        several: whether it takes several values.
        required: whether it must be given.
        values: what it takes, as Markdown.
        default: as Markdown; empty if there is none.
        text: what its help says, as Markdown.
    """

    names: tuple[str, ...]
    is_option: bool
    is_flag: bool
    several: bool
    required: bool
    values: str
    default: str
    text: str


def pages() -> dict[str, str]:
    """Return the pages of the command line: path below docs/ → text."""
    commands = read_commands(app)
    written = {f"{FOLDER}/index.md": _overview(commands)}
    for command in commands:
        parts = [made_from("src/tsdsr/cli"), f"# tsdsr {command.name}\n", _text(command)]
        if command.function is not None:
            parts.append(_usage(command.name, command.function))
        for child in command.commands:
            assert child.function is not None
            name = f"{command.name} {child.name}"
            parts += [f"## tsdsr {name}\n", _text(child), _usage(name, child.function)]
        parts.append("Exit status and environment variables: [Command line](index.md).\n")
        written[f"{FOLDER}/{command.name}.md"] = "\n".join(parts)
    return written


def read_commands(typer_app: typer.Typer) -> list[Command]:
    """Return the commands of an app and its groups, in their order."""
    found = []
    for info in typer_app.registered_commands:
        function = info.callback
        assert function is not None
        name = info.name or function.__name__.replace("_", "-")
        found.append(Command(name, inspect.getdoc(function) or "", function))
    for group in typer_app.registered_groups:
        inner = group.typer_instance
        assert inner is not None
        found.append(Command(group.name or "", inner.info.help or "", commands=tuple(read_commands(inner))))
    return found


def read_parameters(function: Callable[..., object]) -> Iterator[Parameter]:
    """Yield the arguments and options of the function of a command."""
    hints = get_type_hints(function, include_extras=True)
    for name, parameter in inspect.signature(function).parameters.items():
        kind, *extras = get_args(hints[name]) if get_origin(hints[name]) is Annotated else (hints[name],)
        if kind is typer.Context:
            continue
        default = parameter.default
        bare = ArgumentInfo() if default is inspect.Parameter.empty else OptionInfo()
        info = next((extra for extra in extras if isinstance(extra, OptionInfo | ArgumentInfo)), bare)
        option = isinstance(info, OptionInfo)
        flag = option and kind is bool
        declared = [text for text in (info.default, *(info.param_decls or ())) if isinstance(text, str)]
        names = tuple(text for text in declared if text.startswith("-")) or (f"--{name.replace('_', '-')}",)
        yield Parameter(
            names=names if option else (info.metavar or name.upper(),),
            is_option=option,
            is_flag=flag,
            several=get_origin(kind) is list,
            required=default is inspect.Parameter.empty,
            values="" if flag else _values(kind, info),
            default=_default(default),
            text=_meaning(info),
        )


def _meaning(info: OptionInfo | ArgumentInfo) -> str:
    text = prose(info.help or "")
    return f"{text} Environment variable: {code(info.envvar)}." if info.envvar else text


def _values(kind: Any, info: OptionInfo | ArgumentInfo) -> str:
    """Describe what an option takes: its placeholder, choices or type with range."""
    if get_origin(kind) in (Union, UnionType):
        (kind,) = (part for part in get_args(kind) if part is not type(None))
    several = get_origin(kind) is list
    if several:
        (kind,) = get_args(kind)
    if issubclass(kind, Enum):
        text = ", ".join(code(choice.value) for choice in kind)
    elif info.metavar:
        text = code(info.metavar)
    else:
        text = " ".join(filter(None, (KINDS[kind], _range(info))))
    return f"{text}; repeatable" if several and "epeatable" not in (info.help or "") else text


def _range(info: OptionInfo | ArgumentInfo) -> str:
    if info.min is not None and info.max is not None:
        return f"from {info.min:,} to {info.max:,}"
    return "" if info.min is None else f"of at least {info.min:,}"


def _default(default: Any) -> str:
    if default is inspect.Parameter.empty or default is None or default is False or default == []:
        return ""
    return code(default.value if isinstance(default, Enum) else default)


def _text(command: Command) -> str:
    paragraphs = command.text.split("\n\n")
    return "\n\n".join(prose(" ".join(paragraph.split())) for paragraph in paragraphs) + "\n"


def _usage(name: str, function: Callable[..., object]) -> str:
    """Return the usage, arguments and options of a command."""
    parameters = list(read_parameters(function))
    arguments = [p for p in parameters if not p.is_option]
    options = [p for p in parameters if p.is_option]
    words = [p.names[0] + ("…" if p.several else "") for p in arguments]
    words += [f"{p.names[-1]} {_placeholder(p)}" for p in options if p.required]
    words += ["[OPTIONS]"] if any(not p.required for p in options) else []
    parts = [f"```text\n{' '.join(['tsdsr', name, *words])}\n```\n"]
    if arguments:
        parts.append(table(("Argument", "Meaning"), [(code(p.names[0]), p.text) for p in arguments]))
    if options:
        rows = [
            (
                ", ".join(map(code, p.names)) + (" (required)" if p.required else ""),
                "flag" if p.is_flag else p.values,
                p.default,
                p.text,
            )
            for p in options
        ]
        parts.append(settings_table("Option", rows))
    return "\n".join(parts)


def _placeholder(parameter: Parameter) -> str:
    given = re.match(r"`([A-Z][^`]*)`", parameter.values)
    return given[1] if given else parameter.names[-1].lstrip("-").upper()


OVERVIEW = """# Command line

`tsdsr` runs everything from a terminal. Every command prints its help with `--help` or `-h`. `tsdsr --version` prints
the version. `python -m tsdsr` is the same as `tsdsr`.

## Commands

{commands}
## Exit status

| Status | Meaning |
| --- | --- |
| 0 | Everything worked. Files skipped because their results exist count as done. |
| 1 | A file failed, or the disk was full or not writable. The other files are done. |
| 2 | The arguments are wrong, or a model or folder that they name does not exist. |
| 128 + number | A signal ended the command: 130 after Ctrl+C, 143 after SIGTERM. Temporary files are removed. |
| 141 | The program that read standard output has ended. |

An error is one line on standard error, which begins with `error:`. Results and tables go to standard output, progress
bars to standard error.

## Environment variables

There is no configuration file. Options control each call, and these variables describe the machine.

| Variable | Meaning |
| --- | --- |
| `TSDSR_CACHE` | Folder of models that were exported on first use. Default: `~/.cache/tsdsr`. |
| `TSDSR_TOKEN` | Secret that clients of `tsdsr serve` must send. |
| `TMPDIR` | Folder of temporary files, such as a large result that does not fit into memory. |
| `OMP_NUM_THREADS` | CPU threads of the engines. Default: one for each core. |
| `HF_HOME`, `HF_TOKEN`, `HF_HUB_OFFLINE` | Cache, login and offline mode of the model hub. |
| `RAY_ADDRESS` | Ray cluster of `tsdsr upscale --on ray` without an address. |
"""


def _overview(commands: list[Command]) -> str:
    rows = []
    for command in commands:
        first = prose(" ".join(command.text.split("\n\n")[0].split()))
        rows.append((f"[`tsdsr {command.name}`]({command.name}.md)", first))
        for child in command.commands:
            name = f"tsdsr {command.name} {child.name}"
            first = prose(" ".join(child.text.split("\n\n")[0].split()))
            rows.append((f"[`{name}`]({command.name}.md#{name.replace(' ', '-')})", first))
    return made_from("docs_tools/reference/command_line.py") + OVERVIEW.format(
        commands=table(("Command", "What it does"), rows)
    )
