"""Shards as a source of photographs: the index of a folder of shards, and shards that are indexed by their headers.

``tsdsr data shard`` writes ``index.json`` beside its shards. Shards without one are indexed once, by reading the
headers of their files, and the result is kept in a folder of the user.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

from tsdsr.data.shard_file import ShardEntry, scan_shard
from tsdsr.data.shard_photos import ShardPhotos, ShardSource
from tsdsr.data.source_specs import expand_range, parse_shards
from tsdsr.errors import DatasetError, FileReadError, MissingFileError
from tsdsr.files import StrPath, write_text
from tsdsr.hashing import hash_text
from tsdsr.remote_files import find_file, join_url, list_files, local_path, read_bytes
from tsdsr.wording import counted

logger = logging.getLogger(__name__)

INDEX = "index.json"
SHARD_INDEX = "shard-index"
"""Folder in a run or a cache that keeps the index of shards that have none beside them."""

_FORMAT = 2
_THREADS = 16
"""Shards that are looked at together: most of the time is spent waiting for answers."""


def open_shards(spec: StrPath, cache: StrPath) -> ShardSource:
    """Open shards given as ``URL[,limit=N][,weight=W]``.

    The URL is a folder of shards, one shard (``….tar``), or several (``…/{000..999}.tar``); local, or of any kind that
    fsspec supports. The photographs are in the order of the shards and of the files in them; ``limit`` takes the first.

    Args:
        spec (str | PathLike): see above.
        cache (str | PathLike): folder that keeps the index of shards that have none beside them.

    Raises:
        InvalidInputError: The description is invalid.
        DatasetError: There are no shards, or they or their index cannot be read, or do not belong together.
        MissingDependencyError: fsspec, or its package for this kind of URL, is not installed.
    """
    parsed = parse_shards(spec)
    try:
        shards = _shards_at(parsed.url)
        with ThreadPoolExecutor(_THREADS) as pool:
            missing = [url for url, known in shards.items() if not isinstance(known, ShardEntry)]
            if missing:
                what = counted(len(missing), "shard has", "shards have")
                logger.warning("%s: %s no index; the headers of new ones are read once", parsed.url, what)
            scanned = pool.map(partial(_scanned, cache=Path(cache)), missing, [shards[url] for url in missing])
            entries = dict(zip(missing, scanned, strict=True))
            whole = {url: known for url, known in shards.items() if isinstance(known, ShardEntry)}
            list(pool.map(_check_size, whole, whole.values()))
    except FileReadError as error:
        raise DatasetError(f"{error}; it is named by --shards") from error
    photos = ShardPhotos([(url, entries.get(url) or whole[url]) for url in shards])
    if not len(photos):
        raise DatasetError(f"{parsed.url}: the shards contain no images")
    return ShardSource(parsed.url, photos[: parsed.limit], parsed.weight)


def check_shards(spec: StrPath) -> None:
    """Check that a description of shards is well-formed and that local ones exist; read nothing.

    Raises:
        InvalidInputError, DatasetError: as :func:`open_shards`.
    """
    url = parse_shards(spec).url
    for shard in (url,) if _is_there(url) else expand_range(url):
        if (path := local_path(shard)) is not None and not path.exists():
            raise DatasetError(f"{shard}: no such folder or shard")


def write_index(folder: Path, entries: Sequence[ShardEntry]) -> None:
    """Write the index of a folder of shards.

    Raises:
        FileWriteError: It cannot be written.
    """
    plain = {"format": _FORMAT, "shards": [entry.to_plain() for entry in entries]}
    write_text(folder / INDEX, json.dumps(plain))


def describes(path: Path, keys: Mapping[str, str]) -> bool:
    """Whether an index file is that of shards with these names and hashes of keys; the oldest ones have no hashes."""
    try:
        pairs = zip(_read_index(str(path)), keys.items(), strict=True)
        return all(old["name"] == name and old.get("keys", hashed) == hashed for old, (name, hashed) in pairs)
    except (OSError, DatasetError, ValueError, KeyError, AttributeError, TypeError):
        return False


def _shards_at(url: str) -> dict[str, ShardEntry | str]:
    """Return path or URL of each shard, with its entry in the index or, if that has none, a hash of its keys or ""."""
    if url.endswith(".tar"):
        shards = [url] if _is_there(url) else expand_range(url)
        folders = list(dict.fromkeys(shard.rpartition("/")[0] or "." for shard in shards))
        known = {join_url(f, plain["name"]): plain for f in folders for plain in _index_at(f)}
        return {shard: _known(known.get(shard if "/" in shard else f"./{shard}", {}), shard) for shard in shards}
    base = url.rstrip("/")
    if indexed := _index_at(base):
        _report_others(base, {plain["name"] for plain in indexed})
        return {join_url(base, plain["name"]): _known(plain, f"{base}/{INDEX}") for plain in indexed}
    if local_path(base) is not None and not _is_there(base):
        raise DatasetError(f"{url}: no such folder or shard")
    names = sorted(file.relative for file in list_files(base) if file.relative.endswith(".tar"))
    if not names:
        raise DatasetError(f"{url}: contains no shards (*.tar); write them with 'tsdsr data shard'")
    return {join_url(base, name): "" for name in names}


def _report_others(folder: str, indexed: Collection[str]) -> None:
    """Report shards in a local folder that its index does not name: they were put there later, and are not used."""
    if (path := local_path(folder)) is None:
        return
    if others := sorted({file.name for file in path.glob("*.tar")} - {*indexed}):
        what = counted(len(others), "shard is", "shards are")
        logger.warning("%s: %s not in %s and not used, e.g. %s", folder, what, INDEX, others[0])


def _is_there(url: str) -> bool:
    """Whether a local path exists, which may have braces in its name."""
    return (path := local_path(url)) is not None and path.exists()


def _index_at(folder: str) -> list[dict[str, Any]]:
    """Return the shards in the index of a folder; none if it has no index, or one of another program."""
    try:
        return _read_index(join_url(folder, INDEX))
    except MissingFileError:
        return []


def _read_index(url: str) -> list[dict[str, Any]]:
    try:
        plain = json.loads(read_bytes(url))
        if isinstance(plain, list) or (isinstance(plain, dict) and "shards" not in plain):
            return []
        shards: list[dict[str, Any]] = plain["shards"]
        return [{**shard, "name": str(shard["name"])} for shard in shards]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DatasetError(
            f"{url}: is not an index of shards ({error}); write them again with 'tsdsr data shard'"
        ) from error


def _known(plain: Mapping[str, Any], where: str) -> ShardEntry | str:
    if "places" not in plain:  # format 1 of the index, or none
        return str(plain.get("keys") or "")
    try:
        return ShardEntry.from_plain(plain)
    except (ValueError, KeyError, TypeError) as error:
        raise DatasetError(
            f"{where}: its index is damaged ({error}); write it again with 'tsdsr data shard'"
        ) from error


def _scanned(url: str, keys: str | ShardEntry, cache: Path) -> ShardEntry:
    """Return the entry of a shard from the cache or, if it is new or has changed, from its headers."""
    file = find_file(url)
    if file is None:
        raise DatasetError(f"{url}: no such shard")
    kept = cache / f"{hash_text(url)[:32]}.json"
    stamp = f"{url} {file.size} {file.stamp}"
    try:
        plain = json.loads(kept.read_bytes())
        if plain["stamp"] == stamp:
            return ShardEntry.from_plain(plain["shard"])
    except (OSError, ValueError, KeyError, TypeError):
        pass  # none yet, or one that was not written to its end
    entry = scan_shard(url)
    if keys and keys != entry.keys:
        raise DatasetError(f"{url}: contains other samples than the index says; write the shards again")
    write_text(kept, json.dumps({"stamp": stamp, "shard": entry.to_plain()}))
    return entry


def _check_size(url: str, entry: ShardEntry) -> None:
    """Check a local shard's size. Each photograph is checked where it is read, by its header."""
    if (path := local_path(url)) is None:
        return
    try:
        size = path.stat().st_size
    except OSError as error:
        raise DatasetError(f"{path}: cannot be read ({error.strerror or error})") from error
    if size != entry.bytes:
        raise DatasetError(f"{path}: has {size} bytes, but the index says {entry.bytes}; write the shards again")
