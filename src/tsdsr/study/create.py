"""Folders of pictures → a study."""

from __future__ import annotations

import csv
import io
import secrets
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from PIL import Image

from tsdsr.errors import DatasetError, InvalidInputError
from tsdsr.evaluation.pairing import DEFAULT_SUFFIXES, check_sizes, match_folders
from tsdsr.files import atomic_path
from tsdsr.hashing import hash_bytes
from tsdsr.images.reading import read_rgb
from tsdsr.study.definition import DEFINITION, MAX_SHOWN, Study, StudyImage, picture_path


def create_study(
    folder: Path,
    lr: Path,
    gt: Path,
    systems: Mapping[str, Path],
    *,
    title: str = "Which restoration is best?",
    categories: Path | None = None,
    shown: int | None = None,
    per_voter: int | None = None,
    suffixes: Sequence[str] = DEFAULT_SUFFIXES,
    on_image: Callable[[int, int], None] | None = None,
) -> Study:
    """Make a study of pictures that are matched by stem; ``study.json`` is written last.

    Args:
        folder (Path): of the study; must not hold one yet.
        lr (Path): folder of low-resolution images, shown bicubically enlarged to the size of the true ones.
        gt (Path): folder of true images.
        systems (mapping): name → folder of restorations as large as the true images.
        title (str): heading of the page.
        categories (Path | None): see :func:`read_categories`; without it, true images in subfolders belong to the
            category their subfolder is called, and others to none.
        shown (int | None): restorations a voter sees at a time; default all, up to nine.
        per_voter (int | None): images a voter is asked about, drawn for each; default all.
        suffixes (sequence of str): endings of stems to disregard.
        on_image (callable | None): called with the numbers of finished and of all images.

    Raises:
        InvalidInputError: a study is there already, a folder is missing or empty, or a number is out of range.
        DatasetError: files are unmatched, differ in size, or are without a category.
        ImageReadError: a file cannot be decoded.
    """
    if (folder / DEFINITION).exists():
        raise InvalidInputError(f"{folder}: holds a study already; give another folder")
    names = tuple(systems)
    matched = match_folders({"input": lr, "reference": gt, **{f"={n}": systems[n] for n in names}}, suffixes)
    # Drawn up without pictures first, so that what is wrong with it is said before minutes go into pictures.
    of_stem = _categories({stem: files["reference"] for stem, files in matched}, gt, categories)
    blank = tuple(StudyImage(stem, of_stem[stem], "", "", ()) for stem, _ in matched)
    draft = (title, secrets.token_hex(16), names)
    numbers = (min(len(names), MAX_SHOWN) if shown is None else shown, len(matched) if per_voter is None else per_voter)
    Study(*draft, blank, *numbers)
    check_sizes([(files["reference"], files[f"={name}"]) for _, files in matched for name in names])

    images = []
    for done, (stem, files) in enumerate(matched, 1):
        reference = Image.fromarray(read_rgb(files["reference"]))
        low = Image.fromarray(read_rgb(files["input"])).resize(reference.size, Image.Resampling.BICUBIC)
        restored = [Image.fromarray(read_rgb(files[f"={name}"])) for name in names]
        keys = [_store(folder, picture) for picture in (low, reference, *restored)]
        images.append(StudyImage(stem, of_stem[stem], keys[0], keys[1], tuple(keys[2:])))
        if on_image is not None:
            on_image(done, len(matched))
    study = Study(*draft, tuple(images), *numbers)
    study.save(folder)
    return study


def read_categories(path: Path) -> dict[str, str]:
    """Stem → category from a file of two columns: ``.tsv`` is separated by tabs, anything else by commas.

    A first row ``image,category`` is a heading.

    Raises:
        DatasetError: the file cannot be read, a row has not two cells, or a stem comes twice.
    """
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


def _categories(references: Mapping[str, Path], gt: Path, file: Path | None) -> dict[str, str | None]:
    """Every stem's category, or None for all."""
    if file is not None:
        given = read_categories(file)
        if wrong := sorted(given.keys() ^ references.keys()):
            listed = ", ".join(f"{stem} ({'no such image' if stem in given else 'no category'})" for stem in wrong[:10])
            raise DatasetError(f"{file}: {len(wrong)} stems do not match the images of {gt}: {listed}")
        return {stem: given[stem] for stem in references}
    below = {stem: path.relative_to(gt).parent.as_posix() for stem, path in references.items()}
    if set(below.values()) == {"."}:
        return dict.fromkeys(references)
    if loose := [stem for stem, name in below.items() if name == "."]:
        raise DatasetError(
            f"{gt}: some images lie in subfolders, their categories, others not: {', '.join(loose[:10])}"
        )
    return dict(below)


def _store(folder: Path, picture: Image.Image) -> str:
    """Write a picture under the hash of its PNG file, unless it is there."""
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    key = hash_bytes(buffer.getvalue())
    path = picture_path(folder, key)
    if not path.exists():
        with atomic_path(path) as temporary:
            temporary.write_bytes(buffer.getvalue())
    return key
