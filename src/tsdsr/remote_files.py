"""Files at URLs that fsspec supports (``s3://``, ``gs://``, ``hf://``, …), and local ones, through the same functions.

Every call to a storage service is repeated with growing waits if it failed for a reason that can pass, such as an
answer 503 or a lost connection. A missing file or a refused permission is reported at once. A local path needs no
fsspec; ``file://`` URLs are local paths.
"""

from __future__ import annotations

import errno
import glob
import os
import re
import secrets
import shutil
import stat
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import IO, Any, TypeVar

from tsdsr.errors import FileReadError, FileWriteError, InvalidInputError, MissingFileError
from tsdsr.files import StrPath, atomic_path
from tsdsr.storage import errors_named, file_system, require_fsspec, retried

_T = TypeVar("_T")

_ATOMIC_PUT = {"s3", "s3a", "gs", "gcs", "az", "abfs", "abfss", "memory", "hf"}
"""Schemes of storage where a file appears only when its upload is complete."""

_STAMPS = ("ETag", "etag", "md5Hash", "blob_id", "mtime", "LastModified", "last_modified", "updated", "created")
"""Fields of fsspec's file information that change with the content, the surest first."""


@dataclass(frozen=True)
class RemoteFile:
    """A file that was listed.

    Attributes:
        url (str): its URL, or its path.
        relative (str): its path below the folder that was listed, with "/"; of a single file or a match, its name.
        size (int): bytes.
        stamp (str): changes with the file's content and is known without reading it; "" if there is no such value.
    """

    url: str
    relative: str
    size: int
    stamp: str


def is_url(text: str) -> bool:
    """Return whether a text is a URL rather than a local path."""
    return re.match(r"[A-Za-z][A-Za-z0-9+.-]*://", text) is not None


def local_path(url: str) -> Path | None:
    """Return the local path that a path or a ``file://`` URL means; None for any other URL."""
    if url.startswith(("file://", "local://")):
        return Path(url.partition("://")[2])
    return None if is_url(url) else Path(os.path.expanduser(url))


def join_url(base: str, relative: str) -> str:
    """Return the URL or path of what lies at a relative path, written with "/", below a folder."""
    return f"{base}{relative}" if base.endswith("/") else f"{base}/{relative}"


def open_url(url: str) -> AbstractContextManager[IO[bytes]]:
    """Open a file for reading.

    Raises:
        FileReadError: it cannot be opened; a :class:`~tsdsr.errors.MissingFileError` if there is none. Both are an
            OSError, and reading from the file raises any OSError.
        MissingDependencyError: fsspec, or its package for this kind of URL, is not installed.
    """
    if (path := local_path(url)) is not None:
        with errors_named(url):
            return path.open("rb")
    file: AbstractContextManager[IO[bytes]] = _read(url, lambda fs, inner: fs.open(inner, "rb"))
    return file


def read_bytes(url: str, start: int = 0, size: int | None = None) -> bytes:
    """Read a file, or a range of it in one request.

    Args:
        url (str): URL or path.
        start (int): first byte.
        size (int | None): number of bytes; None reads to the end.

    Raises:
        FileReadError: as :func:`open_url`, or the file has fewer bytes.
        MissingDependencyError: as :func:`open_url`.
    """
    if (path := local_path(url)) is not None:
        with errors_named(url), path.open("rb") as file:
            file.seek(start)
            data = file.read(-1 if size is None else size)
    else:
        end = None if size is None else start + size
        data = bytes(_read(url, lambda fs, inner: fs.cat_file(inner, start=start or None, end=end)))
    if size is not None and len(data) != size:
        raise FileReadError(f"{url}: has fewer than {start + size} bytes; it was changed or cut off")
    return data


def find_file(url: str) -> RemoteFile | None:
    """Return a file's size and stamp; None if there is no file there.

    Raises:
        FileReadError, MissingDependencyError: as :func:`open_url`.
    """
    info = _info(url)
    return None if info is None or info["type"] == "directory" else _described(url, url.rpartition("/")[2], info)


def is_folder(url: str) -> bool:
    """Return whether there is a folder at a URL or path; in object storage, whether any key lies below it.

    Raises:
        FileReadError, MissingDependencyError: as :func:`open_url`.
    """
    info = _info(url)
    return info is not None and info["type"] == "directory"


def exists(url: str) -> bool:
    """Return whether there is a file or a folder at a URL or path.

    Raises:
        FileReadError, MissingDependencyError: as :func:`open_url`.
    """
    return _info(url) is not None


def is_pattern(url: str) -> bool:
    """Return whether a URL or path contains ``*``, ``?`` or ``[``, and nothing exists that is called so."""
    return any(character in url for character in "*?[") and not exists(url)


def list_files(url: str) -> Iterator[RemoteFile]:
    """List the files below a folder, or those that a pattern matches.

    The listing is never in memory as a whole: S3 is read in pages of 1,000 keys, other storage folder by folder. Links
    to folders are not followed.

    Args:
        url (str): a folder; a file; or a pattern with ``*``, ``?``, ``[…]`` or ``**``. A folder that matches a pattern
            without ``**`` stands for the files below it.

    Yields:
        RemoteFile: nothing if there is no such folder.

    Raises:
        FileReadError, MissingDependencyError: as :func:`open_url`.
    """
    if is_pattern(url):
        yield from _matches(url)
    elif (file := find_file(url)) is not None:
        yield file
    else:
        yield from _below(url)


def write_file(url: str, source: StrPath) -> int:
    """Copy a local file to a URL or path. Readers see the old file or the complete new one.

    Args:
        url (str): where to; missing folders are created.
        source (str | PathLike): a local file.

    Returns:
        int: its size in bytes, as it was read back from the storage.

    Raises:
        FileWriteError: it cannot be written; what was at ``url`` is untouched.
        MissingDependencyError: as :func:`open_url`.
    """
    if (path := local_path(url)) is not None:
        with atomic_path(path) as temporary:
            shutil.copyfile(source, temporary)
        return path.stat().st_size
    size = os.path.getsize(source)

    def put() -> None:
        fs, inner = file_system(url)
        _put(fs, inner, os.fspath(source), url.partition("://")[0] in _ATOMIC_PUT)
        if (there := fs.info(inner)["size"]) != size:
            raise OSError(errno.EIO, f"{there} of {size} bytes arrived")

    with errors_named(url, "written", FileWriteError):
        retried(put)
    return size


def _put(fs: Any, inner: str, source: str, atomic: bool) -> None:
    if atomic and "memory" in fs.protocol:
        fs.pipe_file(inner, Path(source).read_bytes())  # put_file() would show an empty file first
    elif atomic:
        fs.put_file(source, inner)
    else:
        folder, _, _ = inner.rpartition("/")
        temporary = f"{folder}/.tsdsr-{secrets.token_hex(5)}.tmp"
        fs.makedirs(folder, exist_ok=True)
        try:
            fs.put_file(source, temporary)
            fs.mv(temporary, inner)
        finally:
            with suppress(Exception):  # already moved, or the storage is gone
                fs.rm_file(temporary)


def _info(url: str) -> dict[str, Any] | None:
    try:
        if (path := local_path(url)) is not None:
            with errors_named(url):
                return _local_info(path.stat())
        info: dict[str, Any] = _read(url, lambda fs, inner: fs.info(inner))
        return info
    except MissingFileError:
        return None


def _described(url: str, relative: str, info: dict[str, Any]) -> RemoteFile:
    size = int(info["size"] or 0)
    value = next((info[field] for field in _STAMPS if info.get(field)), "")
    if isinstance(value, datetime):
        value = value.timestamp()  # fsspec's memory gives one or the other
    stamp = f"{str(value).strip(chr(34))}-{size}" if value else ""
    return RemoteFile(url, relative, size, stamp)


def _matches(pattern: str) -> Iterator[RemoteFile]:
    """List what a pattern matches."""
    if (path := local_path(pattern)) is not None:
        for match in glob.iglob(_with_literal_start(path), recursive=True):
            if (file := find_file(match)) is not None:
                yield file
            elif "**" not in pattern:
                yield from _below_local(Path(match))
        return
    require_fsspec(pattern)
    from fsspec.utils import glob_translate

    literal = re.split(r"[*?\[]", pattern, maxsplit=1)[0].rpartition("/")[0]
    if literal.endswith(":/"):
        raise InvalidInputError(f"{pattern}: a pattern needs a bucket or host without *, ? and [")
    match_file = glob_translate(pattern[len(literal) + 1 :]).removesuffix(r"\Z").removesuffix(r"\z")
    wanted = re.compile(match_file + ("" if "**" in pattern else "(?P<below>/.*)?"))
    for file in _below(literal):
        if found := wanted.fullmatch(file.relative):
            inner = (found.groupdict().get("below") or file.relative.rpartition("/")[2]).removeprefix("/")
            yield replace(file, relative=inner)


def _with_literal_start(pattern: Path) -> str:
    """Return a local pattern whose first parts are no pattern if they exist as they are written."""
    parts, literal = pattern.parts, Path()
    while os.path.lexists(literal / parts[0]):
        literal, parts = literal / parts[0], parts[1:]
    return os.path.join(glob.escape(str(literal)) if literal != Path() else "", *parts)


def _below(folder: str) -> Iterator[RemoteFile]:
    if (path := local_path(folder)) is not None:
        yield from _below_local(path)
        return
    fs, root = file_system(folder)
    base = folder if folder.endswith("://") else folder.rstrip("/")
    listed = _s3_keys if hasattr(fs, "call_s3") else _folder_by_folder
    for name, info in listed(fs, root, folder):
        relative = name[len(root) + 1 :]
        yield _described(join_url(base, relative), relative, info)


def _below_local(folder: Path) -> Iterator[RemoteFile]:
    waiting = [""]
    while waiting:
        inner = waiting.pop()
        with errors_named(str(folder / inner)), suppress(FileNotFoundError), os.scandir(folder / inner) as entries:
            for entry in entries:
                relative = f"{inner}/{entry.name}" if inner else entry.name
                if entry.is_dir(follow_symlinks=False):
                    waiting.append(relative)
                elif entry.is_file():
                    with suppress(FileNotFoundError):  # deleted since
                        yield _described(entry.path, relative, _local_info(entry.stat()))


def _s3_keys(fs: Any, root: str, url: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the keys below a folder in pages; fsspec's own functions keep the whole listing in memory."""
    bucket, key, _ = fs.split_path(root)
    wanted: dict[str, Any] = {"Bucket": bucket, "Prefix": f"{key}/" if key else ""}
    while True:
        page = _read(url, lambda fs, _: fs.call_s3("list_objects_v2", **wanted))
        for entry in page.get("Contents", ()):
            if not entry["Key"].endswith("/"):  # an empty object that stands for a folder
                yield f"{bucket}/{entry['Key']}", {**entry, "size": entry["Size"]}
        if not page.get("IsTruncated"):
            return
        wanted["ContinuationToken"] = page["NextContinuationToken"]


def _folder_by_folder(fs: Any, root: str, url: str) -> Iterator[tuple[str, dict[str, Any]]]:
    waiting = [root]
    while waiting:
        folder = waiting.pop()
        try:
            entries = _read(url, lambda fs, _, folder=folder: fs.ls(folder, detail=True))
        except MissingFileError:
            continue
        for entry in entries:
            if entry["type"] != "directory":
                yield entry["name"], entry
            elif entry["name"].rstrip("/") != folder.rstrip("/"):
                waiting.append(entry["name"])


def _local_info(status: os.stat_result) -> dict[str, Any]:
    kind = "directory" if stat.S_ISDIR(status.st_mode) else "file"
    return {"type": kind, "size": status.st_size, "mtime": status.st_mtime_ns}


def _read(url: str, call: Callable[..., _T]) -> _T:
    """Return ``call(file system, path)``, repeated if it fails for a reason that can pass."""
    with errors_named(url):
        return retried(lambda: call(*file_system(url)))
