"""The group of all commands: one line for every error a user can act on."""

from __future__ import annotations

import errno
import os
import re
import sys
from collections.abc import Sequence
from typing import Any, NoReturn

import typer
from typer.core import TyperGroup

from tsdsr.errors import InvalidInputError, TSDSRError

_USAGE_ERROR: type[Exception] = typer.BadParameter.__mro__[1]  # of click, or of typer's own copy in newer releases
_NOT_A_NUMBER = re.compile(
    r"'[^']*' is not a valid (float|int)(?:eger)?(?: range)?"
    r"|Input should be a valid (number|integer), unable to parse string as an? (?:number|integer)"
)
"""How releases of typer say it."""
_FREE_TEXT = {"--title", "--instruction", "--suffix"}
"""Options that may be empty."""
_MACHINE = {
    getattr(errno, name)
    for name in ("ENOSPC", "EDQUOT", "EACCES", "EPERM", "EROFS", "EIO", "ENAMETOOLONG", "ELOOP", "EMFILE", "ENFILE")
    if hasattr(errno, name)
}
"""Errors of the operating system that say something about the machine, not about the program."""


class OneLineErrors(TyperGroup):
    """Print errors as one line ``error: …``: those in the arguments exit with 2, those of the machine with 1."""

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,
        windows_expand_args: bool = True,
        **extra: Any,
    ) -> NoReturn:
        """Run a command and exit. The program is called ``tsdsr`` however it was started."""
        try:
            arguments = list(sys.argv[1:] if args is None else args)
            refuse_empty(arguments)
            with self.make_context("tsdsr", arguments, **extra) as context:
                self.invoke(context)
            sys.exit(0)
        except typer.Exit as error:
            sys.exit(error.exit_code)
        except typer.Abort:
            _fail("no answer was given", 1)
        except _USAGE_ERROR as error:
            if type(error).__name__ == "NoArgsIsHelpError":  # its message is the help text
                typer.echo(error.format_message(), err=True)  # type: ignore[attr-defined]
                sys.exit(2)
            _fail(usage_message(error), 2)
        except TSDSRError as error:
            _fail(str(error), 2)
        except OSError as error:
            if error.errno not in _MACHINE:
                raise
            _fail(f"{error.filename}: {error.strerror}" if error.filename else str(error.strerror), 1)


def refuse_empty(arguments: Sequence[str]) -> None:
    """Check that no argument is empty, as ``-o "$OUT"`` is without that variable; as a path it is the current folder.

    Raises:
        InvalidInputError: an argument is empty and is not free text.
    """
    for before, argument in zip(("", *arguments), arguments, strict=False):
        option, equals, value = argument.partition("=")
        if equals and option.startswith("--"):
            name, empty = option, not value.strip()
        else:
            name, empty = before if before.startswith("-") else "an argument", not argument.strip()
        if empty and name not in _FREE_TEXT:
            raise InvalidInputError(f"{name}: is empty; give a value, or '.' for the current folder")


def usage_message(error: Any) -> str:
    """Format an error in the arguments as one line that names the command whose help says more."""
    text = " ".join(error.format_message().split()).replace("Value error, ", "").rstrip(".")
    text = _NOT_A_NUMBER.sub(_must_be_a_number, text)
    if "unexpected extra argument" in text:
        text += "; put a name with spaces in quotes"
    command = error.ctx.command_path if error.ctx is not None else "tsdsr"
    file = re.match(r"No such command '(.+?)'", text)
    if file is not None and os.path.exists(file[1]):
        text += f"; to restore '{file[1]}', type tsdsr upscale before it"
    return f"{text[:1].lower()}{text[1:]}; see {command} --help"


def _must_be_a_number(match: re.Match[str]) -> str:
    fraction = "float" in match.groups() or "number" in match.groups()
    return "must be a number, such as 0.5" if fraction else "must be a whole number"


def _fail(message: str, status: int) -> NoReturn:
    typer.echo(f"error: {message}", err=True)
    sys.exit(status)
