"""The pictures that the inputs of an archive name, one after the other: folders, patterns, files, lists, tables."""

from __future__ import annotations

import io
import itertools
import os
import re
import stat
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from tsdsr.errors import ImageReadError, InvalidInputError
from tsdsr.images.formats import FORMATS
from tsdsr.images.listing import HIDDEN, describe_skipped, is_hidden, iterate_images
from tsdsr.pipeline.sources import STANDARD_STREAM, named_file
from tsdsr.remote_files import (
    RemoteFile,
    exists,
    find_file,
    is_folder,
    is_pattern,
    is_url,
    join_url,
    list_files,
    local_path,
    open_url,
)
from tsdsr.wording import first_line

LISTS = (".txt", ".parquet")
"""Suffixes of inputs that list pictures: a URL or path a line; a table with a column ``uri``."""

_COLUMNS = {"uri": pa.string(), "output": pa.string(), "bytes": pa.int64(), "stamp": pa.string()}
"""Columns of a table that are read, and as what. A stamp may also be a number or a time."""


@dataclass(frozen=True)
class ArchiveInput:
    """A picture of an archive.

    Attributes:
        url (str): URL, or absolute path.
        relative (str): its place below the output folder, with "/".
        size (int): bytes; -1 if unknown.
        stamp (str): see :class:`~tsdsr.remote_files.RemoteFile`; "" if unknown.
        error (str): why it cannot be used; "" if nothing is known.
    """

    url: str
    relative: str
    size: int = -1
    stamp: str = ""
    error: str = ""


def absolute(url: str, what: str) -> str:
    """Return a URL without a final "/", or the absolute path of a local file, as every machine should see it.

    Raises:
        InvalidInputError: it is empty.
    """
    if not url.strip():
        raise InvalidInputError(f"{what}: is empty; give a URL or a path")
    path = local_path(url)
    if path is not None:
        return os.path.abspath(path)
    return url if url.endswith("://") else url.rstrip("/")


def require_any(inputs: Sequence[str]) -> None:
    """Check that not all inputs are names of files that do not exist.

    Raises:
        InvalidInputError: they are; or one of them is empty or the standard input.
        FileReadError, MissingDependencyError: see :func:`~tsdsr.remote_files.exists`.
    """
    if STANDARD_STREAM in inputs:
        raise InvalidInputError("-: --on ray cannot read standard input; give a folder, a pattern, a file or a list")
    if not any(is_pattern(name) or exists(name) for name in (absolute(name, "input") for name in inputs)):
        raise InvalidInputError(f"{', '.join(inputs)}: no such file")


def find_inputs(inputs: Sequence[str], output: str, left_out: Counter[str]) -> Iterator[ArchiveInput]:
    """Find the pictures that inputs name, one at a time.

    Folders keep their structure, with the rules of :mod:`tsdsr.images.listing`; the pictures of a list keep that below
    the deepest folder that all of them lie in. The name of a picture that is given or matched is its place.

    Args:
        inputs (sequence of str): folders, patterns and files, at URLs or local; files with a suffix of :data:`LISTS`.
        output (str): folder of the results, left out of folders that contain it; see :func:`absolute`.
        left_out (Counter): numbers of files without a job are added, by kind, see
            :class:`~tsdsr.images.listing.Listing`.

    Yields:
        ArchiveInput: in any order within a folder. A missing file, and an input without a picture, have an error.

    Raises:
        InvalidInputError: an input is empty, or a list is not readable as such.
        FileReadError, MissingDependencyError: see :func:`~tsdsr.remote_files.list_files`.
    """
    for name in inputs:
        place = absolute(name, "input")
        if local_path(place) is not None:
            yield from _local(place, output, left_out)
        elif is_pattern(place):
            found = _pictures(list_files(place), place, output, left_out)
            yield from _or_error(found, place, "no file matches this pattern")
        elif is_folder(place):
            before = Counter(left_out)
            found = _pictures(list_files(place), place, output, left_out)
            yield from _or_error(found, place, "no images found in it", before, left_out)
        elif place.lower().endswith(LISTS):
            yield from _listed(place)
        else:
            file = find_file(place)
            relative = place.rpartition("/")[2]
            yield ArchiveInput(place, relative, error=f"{place}: no such file") if file is None else _described(file)


def _local(place: str, output: str, left_out: Counter[str]) -> Iterator[ArchiveInput]:
    if os.path.isdir(place):
        before = Counter(left_out)
        found = _local_folder(place, output, left_out)
        yield from _or_error(found, place, "no images found in it", before, left_out)
    elif is_pattern(place):
        found = _pictures(list_files(place), place, output, left_out)
        yield from _or_error(found, place, "no file matches this pattern")
    elif place.lower().endswith(LISTS) and os.path.isfile(place):
        yield from _listed(place)
    else:
        yield _local_file(place, os.path.basename(place))


def _local_folder(folder: str, output: str, left_out: Counter[str]) -> Iterator[ArchiveInput]:
    errors: list[tuple[Path, ImageReadError]] = []
    closed = [] if local_path(output) is None else [output]
    try:
        for relative in iterate_images(folder, left_out, closed, lambda inner, error: errors.append((inner, error))):
            yield _local_file(os.path.join(folder, relative), relative.as_posix())
    except ImageReadError as error:
        errors.append((Path(folder), error))
    for path, reason in errors:
        yield ArchiveInput(str(path), path.name, error=str(reason))


def _local_file(path: str, relative: str) -> ArchiveInput:
    try:
        status = os.stat(path)
    except OSError:
        return ArchiveInput(path, relative, error=str(named_file(Path(path)).error))
    if stat.S_ISREG(status.st_mode):
        return ArchiveInput(path, relative, status.st_size, f"{status.st_mtime_ns}-{status.st_size}")
    what = "is a folder, not a file" if stat.S_ISDIR(status.st_mode) else "is not a file"
    return ArchiveInput(path, relative, error=f"{path}: {what}")


def _pictures(files: Iterator[RemoteFile], listed: str, output: str, left_out: Counter[str]) -> Iterator[ArchiveInput]:
    """Leave out what the listing of a local folder leaves out."""
    results = join_url(output, "")
    above = re.split(r"[*?\[]", listed, maxsplit=1)[0].rpartition("/")[0] if is_pattern(listed) else listed
    allowed = set(listed.split("/"))  # names that the pattern spells out
    inside = join_url(listed, "").startswith(results)
    for file in files:
        suffix = os.path.splitext(file.relative)[1].lower()
        if not inside and file.url.startswith(results):
            continue
        if any(is_hidden(part) and part not in allowed for part in file.url[len(above) :].split("/")):
            if suffix in FORMATS:
                left_out[HIDDEN] += 1
        elif suffix in FORMATS:
            yield _described(file)
        else:
            left_out[suffix] += 1


def _described(file: RemoteFile) -> ArchiveInput:
    return ArchiveInput(absolute(file.url, "input"), file.relative, file.size, file.stamp)


def _or_error(
    found: Iterator[ArchiveInput],
    place: str,
    message: str,
    before: Mapping[str, int] | None = None,
    left_out: Counter[str] | None = None,
) -> Iterator[ArchiveInput]:
    """Yield what was found, or an input with an error if there is nothing."""
    first = next(found, None)
    if first is not None:
        yield first
        yield from found
        return
    other = Counter() if left_out is None else left_out - Counter(before)
    rest = f", only {describe_skipped(other)}" if other else ""
    yield ArchiveInput(place, place.rpartition("/")[2], error=f"{place}: {message}{rest}")


def _listed(place: str) -> Iterator[ArchiveInput]:
    """Yield the pictures of a list or table. It is read twice, the first time for their common folder."""
    common: list[str] | None = None
    for row in _rows(place):
        folder = row["uri"].split("/")[:-1]
        common = folder if common is None else _common_start(common, folder)
    if common is None:
        yield ArchiveInput(place, place.rpartition("/")[2], error=f"{place}: names no picture")
        return
    for row in _rows(place):
        url = row["uri"]
        relative = row["output"] or "/".join(url.split("/")[len(common) :])
        if is_url(url):
            yield ArchiveInput(url, relative, -1 if row["bytes"] is None else row["bytes"], row["stamp"] or "")
        else:
            yield _local_file(url, relative)


def _common_start(first: list[str], second: list[str]) -> list[str]:
    pairs = zip(first, second, strict=False)
    return [part for part, _ in itertools.takewhile(lambda pair: pair[0] == pair[1], pairs)]


def _rows(place: str) -> Iterator[dict[str, Any]]:
    read = _table_rows if place.lower().endswith(".parquet") else _lines
    for row in read(place):
        if row["uri"] and row["uri"].strip():
            yield {"output": None, "bytes": None, "stamp": None, **row, "uri": absolute(row["uri"], place)}


def _lines(place: str) -> Iterator[dict[str, Any]]:
    with open_url(place) as file, io.TextIOWrapper(file, encoding="utf-8-sig", errors="surrogateescape") as lines:
        for line in lines:
            if "\0" in line:  # UTF-16, or no text at all
                raise InvalidInputError(f"{place}: is not UTF-8 text; save the list as UTF-8")
            yield {"uri": line.strip()}


def _table_rows(place: str) -> Iterator[dict[str, Any]]:
    try:
        with open_url(place) as file, pq.ParquetFile(file) as table:
            if "uri" not in table.schema_arrow.names:
                raise InvalidInputError(f"{place}: has no column 'uri' with the pictures' URLs")
            columns = [name for name in _COLUMNS if name in table.schema_arrow.names]
            for batch in table.iter_batches(10_000, columns=columns):
                values = [_column(batch.column(name), name, place) for name in columns]
                yield from pa.RecordBatch.from_arrays(values, names=columns).to_pylist()
    except pa.ArrowException as error:
        raise InvalidInputError(f"{place}: is not a Parquet table ({first_line(error)})") from error


def _column(values: pa.Array, name: str, place: str) -> pa.Array:
    """Return a column of a table in its type; a number is no URL, but may be a stamp."""
    found = values.type.value_type if pa.types.is_dictionary(values.type) else values.type
    is_text = pa.types.is_string(found) or pa.types.is_large_string(found)
    try:
        if name in ("uri", "output") and not (is_text or pa.types.is_null(found)):
            raise pa.ArrowTypeError(f"it contains {found}")
        return values.cast(_COLUMNS[name])
    except pa.ArrowException as error:
        reason = first_line(error)
        raise InvalidInputError(f"{place}: column {name!r} must contain {_COLUMNS[name]} ({reason})") from error
