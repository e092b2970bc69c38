"""Helpers shared by several commands."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from enum import Enum
from pathlib import Path

import typer

from tsdsr.errors import InvalidInputError, TSDSRError
from tsdsr.files import require_writable_file
from tsdsr.out_of_memory import memory_reported

SOURCE_HELP = (
    "[folder|div2k|flickr2k|lsdir|ffhq:]PATH[,limit=N][,weight=W]. "
    "PATH is a folder, an image, or a text file with a list."
)

SHARDS_HELP = (
    "a folder of .tar files, one .tar file, or '…/{000..999}.tar'; local, or at s3://, gs://, hf:// …; "
    "optionally with [,limit=N][,weight=W]."
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


def require_report_file(option: str, path: Path) -> Path:
    """Check that a file of figures or tables can be written, and that no picture has its name.

    Args:
        option (str): the option that names it.
        path (Path): the file.

    Raises:
        InvalidInputError: it cannot be written, or its name is that of a picture, which it would replace.
    """
    from tsdsr.images.formats import FORMATS

    if path.suffix.lower() in FORMATS:
        raise InvalidInputError(f"{option} {path}: is the name of a picture; give the file another suffix")
    return require_writable_file(path)


@contextmanager
def errors_reported() -> Iterator[None]:
    """Print a :class:`TSDSRError` as one line and exit with status 2."""
    try:
        with memory_reported("out of memory before the work began; free some memory, or raise the limit (ulimit -v)"):
            yield
    except TSDSRError as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(2) from error
