"""Text prompts of images: one text file per image, written by a captioning model or by hand."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from tsdsr.data.photographs import decode_prompt
from tsdsr.data.sources import Source, sample_keys
from tsdsr.errors import DatasetError, FileWriteError, ImageError, MissingDependencyError
from tsdsr.files import StrPath, as_path, require_writable_folder, write_text
from tsdsr.hashing import fingerprint_file
from tsdsr.images.reading import read_rgb
from tsdsr.result_records import ResultRecords
from tsdsr.wording import counted

OnFailure = Callable[[str], None]
Describe = Callable[[Sequence[Image.Image]], list[str]]
"""A captioning model: images → one line of text each."""


@dataclass(frozen=True)
class Captions:
    """Which captions of a set of images are to be written, and where.

    Attributes:
        files (mapping): image → text file, for all images that can be read.
        made_from (mapping): image → what its caption depends on: the image, the model and its instruction.
        missing (tuple of Path): images whose caption is to be written.
    """

    files: Mapping[Path, Path]
    made_from: Mapping[Path, Mapping[str, Any]]
    missing: tuple[Path, ...]


def plan_captions(
    source: Source, output: StrPath, settings: Mapping[str, Any], overwrite: bool, on_failure: OnFailure
) -> Captions:
    """Decide which captions are to be written. Texts that were written or changed by hand are kept.

    Args:
        source (Source): images.
        output (str | PathLike): folder of the text files, named after the images' keys.
        settings (mapping): model and instruction, as JSON values.
        overwrite (bool): write captions again that were made from another image or with other settings.
        on_failure (callable): called with a message for each image that cannot be read.

    Raises:
        InvalidInputError: Two images share a key, or the folder cannot be written.
        DatasetError: The folder has captions of other images or settings, and ``overwrite`` is false.
    """
    output, records = require_writable_folder(output), ResultRecords()
    files: dict[Path, Path] = {}
    made_from: dict[Path, dict[str, Any]] = {}
    missing: list[Path] = []
    others: list[Path] = []
    for image, key in sample_keys(source.images, source.root).items():
        file = output / f"{key}.txt"
        try:
            made_from[image] = {"image": fingerprint_file(image), **settings}
        except OSError as error:
            on_failure(f"{image}: cannot be read ({error.strerror or error})")
            continue
        if os.path.lexists(file) and not os.path.isfile(file):
            on_failure(f"{file}: is not a text file; remove it")
            continue
        files[image] = file
        state = records.state(file, made_from[image])
        foreign = state == "different" or (
            state == "unknown" and "image" in records.differences(file, made_from[image])
        )
        if foreign:
            others.append(file)
        if foreign or state == "missing":
            missing.append(image)
    if others and not overwrite:
        raise DatasetError(
            f"{output}: {counted(len(others), 'text belongs', 'texts belong')} to other images, or to another model or "
            f"instruction, e.g. {others[0]}; choose another folder, or replace them with --overwrite"
        )
    return Captions(files, made_from, tuple(missing))


def write_captions(
    captions: Captions, describe: Describe, batch: int, on_failure: OnFailure
) -> Iterator[tuple[Path, ...]]:
    """Write the missing captions and record what they were made from.

    Args:
        captions (Captions): see :func:`plan_captions`.
        describe (callable): the captioning model.
        batch (int): images per call.
        on_failure (callable): called with a message for each image without caption: it cannot be read, or its text
            cannot be written.

    Yields:
        tuple of Path: the text files of each batch.
    """
    records = ResultRecords()
    for start in range(0, len(captions.missing), batch):
        opened = list(_opened(captions.missing[start : start + batch], on_failure))
        texts = describe([picture for _, picture in opened]) if opened else []
        written = []
        for (image, _), text in zip(opened, texts, strict=True):
            file = captions.files[image]
            try:
                write_text(file, text + "\n")
                records.add(file, captions.made_from[image])
            except FileWriteError as error:
                on_failure(str(error))
            else:
                written.append(file)
        yield tuple(written)


def _opened(images: Sequence[Path], on_failure: OnFailure) -> Iterator[tuple[Path, Image.Image]]:
    for image in images:
        try:
            yield image, Image.fromarray(read_rgb(image))
        except (ImageError, MissingDependencyError) as error:
            on_failure(str(error))
        except OSError as error:
            on_failure(f"{image}: cannot be read ({error.strerror or error})")


def read_prompts(sources: Iterable[Source], folder: StrPath) -> dict[Path, str]:
    """Read the prompt of each image from ``folder/KEY.txt``.

    Raises:
        InvalidInputError: Two images of a source share a key.
        DatasetError: Images have no prompt, one text would be that of two images, a text was written for another
            image, or it cannot be read.
    """
    folder = as_path(folder, "prompts")
    files: dict[Path, Path] = {}
    owners: dict[Path, Path] = {}
    for source in sources:
        for image, key in sample_keys(source.images, source.root).items():
            files[image] = file = folder / f"{key}.txt"
            if owners.setdefault(file, image) != image:
                raise DatasetError(
                    f"{file}: would be the prompt of {owners[file]} and of {image}; rename one of them, "
                    "or give a folder above both as one source"
                )
    if missing := [str(file) for file in files.values() if not os.path.isfile(file)]:
        raise DatasetError(
            f"no prompt for {len(missing)} of {counted(len(files), 'image')}, e.g. {', '.join(missing[:3])}; "
            "write them with 'tsdsr data caption'"
        )
    records = ResultRecords()
    return {image: _read_prompt(file, image, records) for image, file in files.items()}


def _read_prompt(file: Path, image: Path, records: ResultRecords) -> str:
    try:
        text = file.read_bytes()
        if records.is_result(file) and "image" in records.differences(file, {"image": fingerprint_file(image)}):
            raise DatasetError(f"{file}: was written for another image than {image}; run 'tsdsr data caption' again")
    except OSError as error:
        raise DatasetError(f"{error.filename or file}: cannot be read ({error.strerror or error})") from error
    return decode_prompt(text, str(file)).strip()
