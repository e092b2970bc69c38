"""Descriptions of image sources as users type them: ``[LAYOUT:]PATH[,limit=N][,weight=W]``, and lists of paths."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from tsdsr.errors import DatasetError, InvalidInputError
from tsdsr.files import StrPath, as_path
from tsdsr.images.formats import FORMATS
from tsdsr.remote_files import is_url

LAYOUTS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "folder": (".",),
        "div2k": ("DIV2K_train_HR", "DIV2K/DIV2K_train_HR"),
        "flickr2k": ("Flickr2K_HR", "Flickr2K/Flickr2K_HR"),
        "lsdir": ("HR/train", "train/HR", "LSDIR/HR/train", "HR"),
        "ffhq": ("images1024x1024", "ffhq/images1024x1024", "images512x512"),
    }
)
"""Dataset → folders of its high-quality images, relative to the root. The first existing one is used."""

_OPTION = re.compile(r",\s*(limit|weight)=([^,]*)$")
_RANGE = re.compile(r"\{(\d+)\.\.(\d+)\}")
_COMMENT = re.compile(r"(^|\s)#.*")


@dataclass(frozen=True)
class SourceSpec:
    """A parsed description of a source.

    Attributes:
        layout (str): a key of :data:`LAYOUTS`.
        path (Path): folder, image file or list; not checked.
        limit (int | None): only the first N images in sorted order.
        weight (float): sampling weight relative to other sources.
    """

    layout: str
    path: Path
    limit: int | None = None
    weight: float = 1.0


def parse_source(spec: StrPath) -> SourceSpec:
    """Parse ``[LAYOUT:]PATH[,limit=N][,weight=W]``.

    Commas, colons and equals signs in paths need no escaping. A path that exists as typed is used literally, and
    options are read from the end. If an option is given twice, the last one counts.

    Raises:
        InvalidInputError: the path is empty, or an option is unknown or out of range.
    """
    text = os.fspath(spec)
    as_path(spec, "photographs")
    rest, values = text, dict[str, str]()
    while not _exists(rest) and (match := _OPTION.search(rest)):
        values.setdefault(match[1], match[2])
        rest = rest[: match.start()]
    layout, path = _without_layout(rest)
    if not os.path.lexists(path):
        _refuse_unknown_option(text, path)
    return SourceSpec(layout, as_path(path, "photographs"), *_numbers(text, values))


def _numbers(text: str, values: Mapping[str, str]) -> tuple[int | None, float]:
    """Return limit and weight.

    Raises:
        InvalidInputError: one is no number, or out of range.
    """
    try:
        limit = int(values["limit"]) if "limit" in values else None
        weight = float(values.get("weight", 1))
    except ValueError as error:
        raise InvalidInputError(f"{text}: limit is a whole number and weight a number ({error})") from error
    if limit is not None and limit < 1:
        raise InvalidInputError(f"{text}: the limit must be at least 1, got {limit}")
    if not 0 < weight < math.inf:
        raise InvalidInputError(f"{text}: the weight must be a positive number, got {weight}")
    return limit, weight


def absolute_source(spec: StrPath) -> str:
    """Return a description with an absolute path, which means the same in every working folder.

    Raises:
        InvalidInputError: see :func:`parse_source`.
    """
    parsed = parse_source(spec)
    return f"{parsed.layout}:{os.path.abspath(parsed.path)}{_options(parsed.limit, parsed.weight)}"


def _options(limit: int | None, weight: float) -> str:
    return ("" if limit is None else f",limit={limit}") + ("" if weight == 1 else f",weight={weight!r}")


@dataclass(frozen=True)
class ShardSpec:
    """A parsed description of shards.

    Attributes:
        url (str): folder of shards, a shard, or a range of shards; not checked.
        limit (int | None): only the first N images.
        weight (float): sampling weight relative to other sources.
    """

    url: str
    limit: int | None = None
    weight: float = 1.0


def parse_shards(spec: StrPath) -> ShardSpec:
    """Parse ``URL[,limit=N][,weight=W]``, see :func:`tsdsr.data.shard_index.open_shards`.

    Raises:
        InvalidInputError: the URL is empty, or an option is unknown or out of range.
    """
    text = os.fspath(spec)
    as_path(spec, "shards")
    url, values = text, dict[str, str]()
    while not os.path.lexists(url) and (match := _OPTION.search(url)):
        values.setdefault(match[1], match[2])
        url = url[: match.start()]
    if not os.path.lexists(url):
        _refuse_unknown_option(text, url)
    return ShardSpec(url, *_numbers(text, values))


def absolute_shards(spec: StrPath) -> str:
    """Return a description of shards that means the same in every working folder.

    Raises:
        InvalidInputError: see :func:`parse_shards`.
    """
    parsed = parse_shards(spec)
    path = Path(os.path.abspath(os.path.expanduser(parsed.url))).as_posix()
    return (parsed.url if is_url(parsed.url) else path) + _options(parsed.limit, parsed.weight)


def expand_range(url: str) -> list[str]:
    """Return the URLs that ``…{000..999}…`` stands for, with the leading zeros of the first number.

    Raises:
        InvalidInputError: the range runs backwards.
    """
    match = _RANGE.search(url)
    if match is None:
        return [url]
    first, last = int(match[1]), int(match[2])
    if last < first:
        raise InvalidInputError(f"{url}: the range {match[0]} runs backwards")
    width = len(match[1]) if match[1].startswith("0") else 0
    head, tail = url[: match.start()], expand_range(url[match.end() :])
    return [f"{head}{number:0{width}d}{rest}" for number in range(first, last + 1) for rest in tail]


def _without_layout(text: str) -> tuple[str, str]:
    layout, colon, path = text.partition(":")
    if not colon or layout not in LAYOUTS or os.path.lexists(text):
        return "folder", text
    return layout, path


def _exists(text: str) -> bool:
    return os.path.lexists(text) or os.path.lexists(_without_layout(text)[1])


def _refuse_unknown_option(spec: str, path: str) -> None:
    """Raise if a path that does not exist is an existing one followed by a comma and anything else."""
    head, comma, _ = path.rpartition(",")
    while comma:
        if os.path.lexists(head):
            raise InvalidInputError(f"{spec}: unknown option {path[len(head) + 1 :]!r}; known: limit, weight")
        head, comma, _ = head.rpartition(",")


def read_list(file: StrPath) -> list[Path]:
    """Read image paths from a UTF-8 text file: one per line, relative to the file's folder.

    ``#`` starts a comment at the start of a line or after white space. A line that is the path of an existing file is
    taken as it is.

    Raises:
        DatasetError: The file is not readable text, or a listed file does not exist; the message names the line.
    """
    file = as_path(file, "list")
    paths: list[Path] = []
    missing: list[tuple[int, str]] = []
    for number, line in enumerate(_lines(file), 1):
        text = line if os.path.isfile(file.parent / line) else _COMMENT.sub("", line).strip()
        if not text:  # an empty line or a comment
            continue
        paths.append(file.parent / text)
        if not os.path.isfile(paths[-1]):
            missing.append((number, text))
    if missing:
        number, text = missing[0]
        if any("\udc80" <= character <= "\udcff" for character in text):
            raise DatasetError(f"{file}: line {number} is not UTF-8 text; save the list in UTF-8")
        raise DatasetError(
            f"{file}: {len(missing)} of {len(paths)} listed files do not exist, "
            f"e.g. in line {number} {file.parent / text}"
        )
    if any(path.is_absolute() for path in paths):  # keys of images are relative to their common folder
        paths = [Path(os.path.abspath(path)) for path in paths]
    return paths


def _lines(file: Path) -> list[str]:
    """Return the lines of a text file. Bytes that are not UTF-8 are kept as the file system's names keep them."""
    try:
        with file.open("rb") as stream:
            content = stream.read(2**16)
            binary = b"\0" in content
            content += b"" if binary else stream.read()
    except OSError as error:
        raise DatasetError(f"{file}: cannot be read ({error.strerror or error})") from error
    if binary or b"\0" in content:
        raise DatasetError(
            f"{file}: is neither an image ({', '.join(FORMATS)}) nor a list, a UTF-8 text with one path per line"
        )
    text = content.removeprefix(b"\xef\xbb\xbf").decode("utf-8", "surrogateescape")
    return [line.removesuffix("\r") for line in text.split("\n")]  # names may hold the other line separators
