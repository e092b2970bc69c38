"""Helpers shared by several commands."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from enum import Enum
from pathlib import Path

import typer

from tsdsr.errors import InvalidInputError, TSDSRError
from tsdsr.out_of_memory import memory_reported

SOURCE_HELP = (
    "[folder|div2k|flickr2k|lsdir|ffhq:]PATH[,limit=N][,weight=W]; a folder, an image, or a text file with a list."
)


class DtypeChoice(str, Enum):
    """Names of the precisions."""

    auto = "auto"
    fp32 = "fp32"
    fp16 = "fp16"
    bf16 = "bf16"


def require_folder(path: Path | None) -> None:
    """Check that a folder, if given, exists.

    Raises:
        InvalidInputError: it does not exist.
    """
    if path is not None and not path.is_dir():
        raise InvalidInputError(f"{path}: no such folder")


@contextmanager
def errors_reported() -> Iterator[None]:
    """Print a :class:`TSDSRError` as one line and exit with status 2."""
    try:
        with memory_reported("out of memory before the work began; free some memory, or raise the limit (ulimit -v)"):
            yield
    except TSDSRError as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(2) from error
