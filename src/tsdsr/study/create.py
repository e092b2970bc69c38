"""Creation of a study from folders of images."""

from __future__ import annotations

import csv
import dataclasses
import io
import secrets
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from PIL import Image

from tsdsr.errors import DatasetError, ImageError, InvalidInputError, MissingDependencyError
from tsdsr.evaluation.pairing import DEFAULT_SUFFIXES, check_sizes, match_folders
from tsdsr.evaluation.terminal import printable
from tsdsr.files import StrPath, as_path, atomic_path, require_writable_folder
from tsdsr.hashing import hash_bytes
from tsdsr.images.reading import read_rgb
from tsdsr.study.definition import DEFINITION, MAX_SHOWN, Study, StudyImage, picture_path
from tsdsr.wording import counted


def create_study(
    folder: StrPath,
    lr: StrPath,
    gt: StrPath,
    systems: Mapping[str, StrPath],
    *,
    title: str = "Which restoration is best?",
    categories: StrPath | None = None,
    shown: int | None = None,
    per_voter: int | None = None,
    suffixes: Sequence[str] = DEFAULT_SUFFIXES,
    on_image: Callable[[int, int], None] | None = None,
) -> Study:
    """Create a study from images matched by stem. ``study.json`` is written last.

    Args:
        folder (str | PathLike): folder of the study; must not contain a study yet.
        lr (str | PathLike): folder of low-resolution images, shown enlarged (bicubic) to the size of the ground truth.
        gt (str | PathLike): folder of ground-truth images.
        systems (mapping): name → folder of restorations of the same size as the ground truth.
        title (str): heading of the page.
        categories (str | PathLike | None): see :func:`read_categories`. None takes the name of an image's subfolder of
            ``gt`` as its category; if there are no subfolders, images have no category.
        shown (int | None): number of restorations shown at a time; default all, up to nine.
        per_voter (int | None): number of images per voter, drawn for each voter; default all.
        suffixes (sequence of str): stem endings to ignore.
        on_image (callable | None): called with (finished, total) images.

    Raises:
        InvalidInputError: A study already exists or cannot be written, a folder is missing or empty, or a number is out
            of range.
        DatasetError: Files are unmatched, differ in size, have no category, or cannot be decoded; the message lists
            them, and no picture is left behind.
    """
    folder, lr, gt = require_writable_folder(folder), as_path(lr, "lr"), as_path(gt, "gt")
    if (folder / DEFINITION).exists():
        raise InvalidInputError(f"{folder}: already contains a study; give another folder")
    names = tuple(systems)
    folders = {"input": lr, "reference": gt, **{f"={n}": as_path(systems[n], n) for n in names}}
    matched = match_folders(folders, suffixes, leave_out=[folder])
    # Validate the definition without pictures first, so that errors appear before the slow encoding.
    of_stem = _categories({stem: files["reference"] for stem, files in matched}, gt, categories)
    blank = tuple(StudyImage(printable(stem), of_stem[stem], "", "", ()) for stem, _ in matched)
    # Names of files and arguments need not be Unicode, but the page and the database store Unicode.
    draft = (printable(title), secrets.token_hex(16), tuple(map(printable, names)))
    numbers = (min(len(names), MAX_SHOWN) if shown is None else shown, len(matched) if per_voter is None else per_voter)
    Study(*draft, blank, *numbers)
    check_sizes([(files["reference"], files[f"={name}"]) for _, files in matched for name in names])

    pictures = [[files["input"], files["reference"], *(files[f"={name}"] for name in names)] for _, files in matched]
    keys = _store_all(folder, pictures, on_image)
    images = (
        dataclasses.replace(image, input=low, reference=reference, candidates=tuple(restored))
        for image, (low, reference, *restored) in zip(blank, keys, strict=True)
    )
    study = Study(*draft, tuple(images), *numbers)
    study.save(folder)
    return study


def _store_all(
    folder: Path, pictures: Sequence[Sequence[Path]], on_image: Callable[[int, int], None] | None
) -> list[list[str]]:
    """Store the input (enlarged), reference and restorations of every image; return their hashes.

    Raises:
        DatasetError: Files cannot be decoded; pictures stored so far are deleted.
    """
    keys: list[list[str]] = []
    new: list[Path] = []
    problems: list[str] = []
    try:
        for done, paths in enumerate(pictures, 1):
            decoded = [picture for path in paths if (picture := _decoded(path, problems)) is not None]
            if not problems:
                low, reference, *restored = decoded
                low = low.resize(reference.size, Image.Resampling.BICUBIC)
                keys.append([_store(folder, picture, new) for picture in (low, reference, *restored)])
            if on_image is not None:
                on_image(done, len(pictures))
        problems = list(dict.fromkeys(problems))
        if problems:
            raise DatasetError(f"{counted(len(problems), 'picture')} cannot be used: {'; '.join(problems[:10])}")
    except BaseException:
        for path in new:
            path.unlink(missing_ok=True)
        with suppress(OSError):  # other pictures, or none was stored
            picture_path(folder, "").parent.rmdir()
        raise
    return keys


def _decoded(path: Path, problems: list[str]) -> Image.Image | None:
    try:
        return Image.fromarray(read_rgb(path))
    except (ImageError, MissingDependencyError) as error:
        problems.append(str(error))
        return None


def read_categories(path: StrPath) -> dict[str, str]:
    """Read a mapping from stem to category from a two-column file.

    A ``.tsv`` file is separated by tabs, any other file by commas. A first row ``image,category`` is a header.

    Raises:
        DatasetError: The file cannot be read, a row does not have two cells, or a stem is repeated.
    """
    path = Path(path)
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            rows = list(csv.reader(file, delimiter="\t" if path.suffix.lower() == ".tsv" else ","))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DatasetError(f"{path}: cannot be read ({error})") from error
    found: dict[str, str] = {}
    for number, row in enumerate(rows, 1):
        cells = [cell.strip() for cell in row]
        if not any(cells) or (number == 1 and cells == ["image", "category"]):
            continue
        if len(cells) != 2 or not all(cells):
            raise DatasetError(f"{path}: row {number} is {row}; two cells are needed, image and category")
        if cells[0] in found:
            raise DatasetError(f"{path}: row {number} names {cells[0]} again")
        found[cells[0]] = cells[1]
    return found


def _categories(references: Mapping[str, Path], gt: Path, file: StrPath | None) -> dict[str, str | None]:
    """Return the category of every stem, or None for all stems."""
    if file is not None:
        given = read_categories(file)
        if wrong := sorted(given.keys() ^ references.keys()):
            listed = ", ".join(f"{stem} ({'no such image' if stem in given else 'no category'})" for stem in wrong[:10])
            raise DatasetError(
                f"{file}: {counted(len(wrong), 'stem does', 'stems do')} not match the images of {gt}: {listed}"
            )
        return {stem: given[stem] for stem in references}
    below = {stem: path.relative_to(gt).parent.as_posix() for stem, path in references.items()}
    if set(below.values()) == {"."}:
        return dict.fromkeys(references)
    if loose := [stem for stem, name in below.items() if name == "."]:
        raise DatasetError(f"{gt}: some images are in subfolders (categories), others are not: {', '.join(loose[:10])}")
    return dict(below)


def _store(folder: Path, picture: Image.Image, new: list[Path]) -> str:
    """Write a picture under the hash of its PNG file, unless it exists, and return the hash; add it to ``new``."""
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    key = hash_bytes(buffer.getvalue())
    path = picture_path(folder, key)
    if not path.exists():
        with atomic_path(path) as temporary:
            temporary.write_bytes(buffer.getvalue())
        new.append(path)
    return key
