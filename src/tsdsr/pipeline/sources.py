"""Find the image files that a user's inputs name: files, folders, patterns and pipes."""

from __future__ import annotations

import glob
import os
import stat
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from tsdsr.errors import ImageReadError, InvalidInputError
from tsdsr.files import as_path
from tsdsr.images.formats import FORMATS
from tsdsr.images.listing import describe_skipped, is_hidden, list_images

STANDARD_STREAM = "-"
"""Name of the standard input, as an input, and of the standard output, as an output."""

OWN_RESULT = "earlier result"
"""Key of :attr:`Sources.skipped` for results of an earlier run found in a folder."""

TWICE = "repeated input"
"""Key of :attr:`Sources.skipped` for files that are named again, also through a link."""

_STDIN = Path("/dev/stdin")


@dataclass(frozen=True)
class Source:
    """An input image.

    Attributes:
        path (Path): the file, as it is named in messages.
        relative (Path): its place below the output folder.
        data (bytes | None): its content if it came through a pipe.
        listed (bool): whether it was found in a folder or by a pattern, rather than named.
        error (ImageReadError | None): why it cannot be used.
    """

    path: Path
    relative: Path
    data: bytes | None = None
    listed: bool = False
    error: ImageReadError | None = None

    @property
    def usable(self) -> bool:
        """Whether no error is known."""
        return self.error is None

    @property
    def identity(self) -> object:
        """A value that two names of one file have in common."""
        if self.data is not None:
            return self.path
        try:
            status = self.path.stat()
        except OSError:
            return os.path.abspath(self.path)
        # Hard links are files of their own; other names of one inode differ in case or go through links.
        return os.path.realpath(self.path) if status.st_nlink > 1 else (status.st_dev, status.st_ino)


@dataclass(frozen=True)
class Sources:
    """What the inputs name.

    Attributes:
        found (tuple of Source): each file once, in the order of the inputs.
        skipped (mapping): number of files in folders that were left out, by kind, see
            :class:`~tsdsr.images.listing.Listing`.
    """

    found: tuple[Source, ...]
    skipped: Mapping[str, int]


def find_sources(
    inputs: Sequence[str], output: Path, is_own_result: Callable[[Path], bool] = lambda _: False
) -> Sources:
    """Find the images that inputs name.

    * A folder stands for all images below it. The output folder below it, and results of earlier runs, are left out;
      a folder that contains nothing but results stands for these.
    * A pattern such as ``*.png`` or ``**/*.png`` stands for what it matches. Its first parts are no pattern if they
      exist as they are written.
    * ``-`` is the standard input. Pipes are read at once.

    Args:
        inputs (sequence of str): files, folders, patterns.
        output (Path): the output folder or file.
        is_own_result (callable): whether a file is the result of an earlier run.

    Returns:
        Sources: an input that cannot be used, a pattern without a match and a folder without an image have an error.

    Raises:
        InvalidInputError: an input is empty or not a path.
    """
    finder = _Finder(output)
    found: dict[object, Source] = {}
    for name in inputs:
        for source in finder.expand(name):
            if found.setdefault(source.identity, source) is not source:
                finder.skipped[TWICE] += 1
    results = {source for source in found.values() if source.listed and source.usable and is_own_result(source.path)}
    if results and any(source.usable and source not in results for source in found.values()):
        finder.skipped[OWN_RESULT] += len(results)
        return Sources(tuple(source for source in found.values() if source not in results), dict(finder.skipped))
    return Sources(tuple(found.values()), dict(finder.skipped))


def named_file(path: Path) -> Source:
    """Return a file as an input. The content of a pipe is read.

    Args:
        path (Path): the file; if it cannot be used, the result has an error.
    """
    try:
        mode = path.stat().st_mode
        if stat.S_ISREG(mode):
            return Source(path, Path(path.name))
        if stat.S_ISFIFO(mode):
            return Source(path, Path(path.name), path.read_bytes())
        message = "is a folder, not a file" if stat.S_ISDIR(mode) else "is neither a file nor a pipe"
    except (FileNotFoundError, NotADirectoryError):
        message = "no such file"
    except OSError as error:
        message = f"cannot be read ({error.strerror or error})"
    return Source(path, Path(path.name), error=ImageReadError(f"{path}: {message}"))


class _Finder:
    """Expands inputs, and counts what is left out."""

    def __init__(self, output: Path) -> None:
        self.output = output
        self.skipped: Counter[str] = Counter()

    def expand(self, name: str) -> Iterator[Source]:
        """Yield the images that an input names."""
        if name == STANDARD_STREAM:
            yield _standard_input()
            return
        path = as_path(name, "input")
        if os.path.isdir(path):
            yield from self._folder(path)
        elif not os.path.lexists(path) and any(character in name for character in "*?["):
            yield from self._pattern(name)
        else:
            yield named_file(path)

    def _folder(self, folder: Path) -> Iterator[Source]:
        errors: list[tuple[Path, ImageReadError]] = []
        images: tuple[Path, ...] = ()
        try:
            listing = list_images(folder, [self.output], lambda inner, error: errors.append((inner, error)))
        except ImageReadError as error:
            errors.append((folder, error))
        else:
            images = listing.images
            self.skipped.update(listing.skipped)
            if not images and not errors:
                left_out = f", only {describe_skipped(listing.skipped)}" if listing.skipped else ""
                errors.append((folder, ImageReadError(f"{folder}: no images found in it{left_out}")))
        for relative in images:
            yield replace(named_file(folder / relative), relative=relative, listed=True)
        for inner, reason in errors:
            yield Source(inner, Path(inner.name), error=reason)

    def _pattern(self, pattern: str) -> Iterator[Source]:
        matches = _matches(pattern)
        if not matches:
            yield Source(Path(pattern), Path(), error=ImageReadError(f"{pattern}: no file matches this pattern"))
        known = any(path.suffix.lower() in FORMATS for path in matches)
        for path in matches:
            if os.path.isdir(path):
                if "**" not in pattern:
                    yield from self._folder(path)
            elif known and path.suffix.lower() not in FORMATS:
                self.skipped[path.suffix.lower()] += 1
            else:
                yield replace(named_file(path), listed=True)


def _standard_input() -> Source:
    """Read the standard input.

    Raises:
        InvalidInputError: it is a terminal, or closed, as a service may start its commands.
    """
    if sys.stdin is None:
        raise InvalidInputError("-: the standard input is closed; pipe an image into it")
    if sys.stdin.isatty():
        raise InvalidInputError("-: the standard input is a terminal; pipe an image into it")
    return Source(_STDIN, Path(_STDIN.name), sys.stdin.buffer.read())


def _matches(pattern: str) -> list[Path]:
    """Return what a pattern matches, sorted. Its first parts are literal as far as they exist."""
    parts, literal = Path(pattern).parts, Path()
    while os.path.lexists(literal / parts[0]):
        literal, parts = literal / parts[0], parts[1:]
    start = glob.escape(str(literal)) if literal != Path() else ""
    found = [Path(match) for match in glob.glob(os.path.join(start, *parts), recursive=True)]
    return sorted(path for path in found if not _runs_through_hidden(path.relative_to(literal), parts))


def _runs_through_hidden(path: Path, parts: Sequence[str]) -> bool:
    """Return whether a match contains a hidden or system name that the pattern does not spell out."""
    return any(is_hidden(name) and name not in parts for name in path.parts)
