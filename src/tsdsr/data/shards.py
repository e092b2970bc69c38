"""WebDataset shards of a folder of images: packing into tar files, with an index."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from tsdsr.data.captions import OnFailure
from tsdsr.data.shard_file import SampleFiles, content_if_same, hash_keys, scan_shard, write_shard
from tsdsr.data.shard_index import INDEX, describes, write_index
from tsdsr.data.sources import sample_keys
from tsdsr.errors import DatasetError, FileWriteError, ImageError, InvalidInputError, MissingDependencyError
from tsdsr.files import StrPath, as_path, require_writable_folder
from tsdsr.wording import counted

logger = logging.getLogger(__name__)


def _log_failure(message: str) -> None:
    logger.warning("left out: %s", message)


def write_shards(
    images: Iterable[Path],
    output: StrPath,
    root: StrPath,
    per_shard: int = 200,
    prompts: StrPath | None = None,
    min_side: int = 1,
    overwrite: bool = False,
    on_failure: OnFailure = _log_failure,
    on_image: Callable[[int, int], None] = lambda done, total: None,
) -> Iterator[Path]:
    """Pack image files, unchanged, into ``000000.tar``, ``000001.tar``, … and write the index at the end.

    Each image is decoded once as a check. Existing shards are kept if they contain exactly these samples, so that an
    interrupted run can be repeated. At the end, the folder contains only the shards of the index.

    Args:
        images (iterable of Path): image files.
        output (str | PathLike): folder of the shards.
        root (str | PathLike): keys are the paths of the images relative to this folder, without suffix.
        per_shard (int): number of samples per shard.
        prompts (str | PathLike | None): folder with one text file per key; an image without one has no prompt.
        min_side (int): images with a shorter side are left out.
        overwrite (bool): replace shards with other content.
        on_failure (callable): called with a message for each image that cannot be read; it is left out.
        on_image (callable): called with the number of checked images and the number of all images.

    Yields:
        Path: each shard when it is complete.

    Raises:
        InvalidInputError: Two images share a key, or a folder is missing or cannot be written.
        DatasetError: No image can be used, no image has a prompt, or the folder contains other shards.
        FileWriteError: A shard cannot be written.
    """
    output = require_writable_folder(output)
    if per_shard < 1:
        raise InvalidInputError(f"per_shard must be at least 1, got {per_shard}")
    keys = sample_keys(images, Path(root))
    texts = {} if prompts is None else _prompt_files(keys.values(), as_path(prompts, "prompts"))
    samples = [SampleFiles(key, path, texts.get(key)) for path, key in keys.items()]
    samples = _usable(samples, min_side, on_failure, on_image)
    chunks = [samples[start : start + per_shard] for start in range(0, len(samples), per_shard)]
    shards = {output / f"{number:06d}.tar": chunk for number, chunk in enumerate(chunks)}
    contents = _make_room(output, shards, overwrite)
    entries = []
    for shard, chunk in shards.items():
        content = contents.get(shard) or write_shard(shard, chunk)
        names = tuple(sample.image.relative_to(root).as_posix() for sample in chunk)
        entries.append(replace(scan_shard(str(shard)), content=content, files=names))
        yield shard
    write_index(output, entries)


def _prompt_files(keys: Collection[str], folder: Path) -> dict[str, Path]:
    if not folder.is_dir():
        raise InvalidInputError(f"{folder}: no such folder of prompts")
    found = {key: path for key in keys if os.path.isfile(path := folder / f"{key}.txt")}
    if not found:
        raise DatasetError(
            f"{folder}: contains no prompt of {counted(len(keys), 'image')}, e.g. {next(iter(keys))}.txt"
        )
    if len(found) < len(keys):
        logger.warning("%s have no prompt in %s", f"{len(keys) - len(found)} of {len(keys)} images", folder)
    return found


def _usable(
    samples: Sequence[SampleFiles], min_side: int, on_failure: OnFailure, on_image: Callable[[int, int], None]
) -> list[SampleFiles]:
    """Return the samples that can be read and are large enough."""
    usable: list[SampleFiles] = []
    small: list[SampleFiles] = []
    for done, sample in enumerate(samples, 1):
        try:
            (usable if sample.check(min_side) else small).append(sample)
        except (ImageError, MissingDependencyError, DatasetError) as error:
            on_failure(str(error))
        on_image(done, len(samples))
    if small:
        what = counted(len(small), "image")
        logger.warning("left out %s with a side below %d pixels, e.g. %s", what, min_side, small[0].image)
    if not usable:
        unread = len(samples) - len(small)
        reasons = {f"{len(small)} with a side below {min_side} pixels": small, f"{unread} unreadable": unread}
        why = ", ".join(reason for reason, count in reasons.items() if count)
        raise DatasetError(f"none of {counted(len(samples), 'image')} can be used: {why}")
    return usable


def _make_room(output: Path, shards: Mapping[Path, Sequence[SampleFiles]], overwrite: bool) -> dict[Path, str]:
    """Check that the folder holds nothing but shards of this set; with ``overwrite``, remove others.

    Returns:
        dict: hash of the content of each shard that is there.
    """
    try:
        there = sorted(output.glob("*.tar"))
    except OSError as error:
        raise DatasetError(f"{output}: cannot be read ({error.strerror or error})") from error
    for path in there:
        if not re.fullmatch(r"\d{6}\.tar", path.name):
            raise DatasetError(f"{path}: is not a shard of this set; choose another folder")
    contents = {path: content_if_same(path, shards[path]) if path in shards else None for path in there}
    others = [path for path, content in contents.items() if content is None]
    keys = {shard.name: hash_keys([sample.key for sample in chunk]) for shard, chunk in shards.items()}
    if os.path.lexists(output / INDEX) and not describes(output / INDEX, keys):
        others.insert(0, output / INDEX)  # removed first, so that no index describes other shards
    if others and not overwrite:
        raise DatasetError(
            f"{output}: contains shards of other images, prompts or settings ({others[0].name} is not of this set); "
            "choose another folder, or replace them with --overwrite"
        )
    for path in others:
        try:
            path.unlink()
        except OSError as error:
            raise FileWriteError(f"{path}: cannot be removed ({error.strerror or error})") from error
    return {path: content for path, content in contents.items() if content is not None}
