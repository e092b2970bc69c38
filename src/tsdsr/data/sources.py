"""Image sources: folders, file lists, layouts of common datasets."""

from __future__ import annotations

import logging
import math
import os
import stat
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from tsdsr.data.photographs import Photo, photo_name, sample_key
from tsdsr.data.source_specs import LAYOUTS, SourceSpec, parse_source, read_list
from tsdsr.errors import DatasetError, InvalidInputError
from tsdsr.files import StrPath, as_path
from tsdsr.images.formats import FORMATS
from tsdsr.images.listing import describe_skipped, list_images
from tsdsr.result_records import ResultRecords
from tsdsr.wording import counted

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Source:
    """A set of training images.

    Attributes:
        name (str): name used in messages.
        images (tuple of Path): image files, sorted.
        weight (float): sampling weight relative to other sources.
    """

    name: str
    images: tuple[Path, ...]
    weight: float = 1.0

    def __post_init__(self) -> None:
        if not self.images:
            raise InvalidInputError(f"{self.name}: no images found")
        if not 0 < self.weight < math.inf:
            raise InvalidInputError(f"{self.name}: the weight must be a positive number, got {self.weight}")

    def take(self, numbers: Sequence[int]) -> Source:
        """Return a source of the images with these numbers."""
        return replace(self, images=tuple(self.images[number] for number in numbers))

    @property
    def root(self) -> Path:
        """The common folder of the images; their keys are relative to it."""
        return Path(os.path.commonpath({os.path.dirname(path) or "." for path in self.images}))


def list_photos(folder: StrPath, leave_out: Iterable[StrPath] = ()) -> list[Path]:
    """List all image files below ``folder``, sorted. Files that are left out are counted in the log.

    Args:
        folder (str | PathLike): the folder.
        leave_out (iterable of str | PathLike): folders below it that are not entered.

    Raises:
        InvalidInputError: The folder is missing or contains no image.
        ImageReadError: A folder cannot be read.
    """
    folder = as_path(folder, "photographs")
    if not folder.is_dir():
        raise InvalidInputError(f"{folder}: no such folder, so there are no photographs")
    listing = list_images(folder, leave_out)
    left_out = describe_skipped(listing.skipped)
    if not listing.images:
        found = f"; it contains {left_out}" if left_out else ""
        raise InvalidInputError(f"{folder}: no photographs found; known suffixes: {', '.join(FORMATS)}{found}")
    if left_out:
        logger.warning("%s: left out %s", folder, left_out)
    return [folder / image for image in listing.images]


def list_originals(folder: StrPath, leave_out: Iterable[StrPath] = ()) -> list[Path]:
    """List as :func:`list_photos`, without results that this package wrote below the folder.

    If a folder contains nothing but results, these are listed.

    Args:
        folder, leave_out: see :func:`list_photos`.

    Raises:
        InvalidInputError, ImageReadError: as :func:`list_photos`.
    """
    photos, records = list_photos(folder, leave_out), ResultRecords()
    originals = [path for path in photos if not records.is_result(path)]
    if not originals:
        return photos
    if len(originals) < len(photos):
        logger.warning("%s: left out %s", folder, counted(len(photos) - len(originals), "result"))
    return originals


def open_source(spec: StrPath) -> Source:
    """Open a source given as ``[LAYOUT:]PATH[,limit=N][,weight=W]``.

    Examples: ``photos``, ``a.jpg``, ``div2k:/data/DIV2K``, ``ffhq:/data/FFHQ,limit=10000,weight=0.5``. The path is a
    folder, an image file, or a text file with a list, see :func:`read_list`. ``limit`` keeps the first N images in
    sorted order. For commas and colons in paths, see :func:`~tsdsr.data.source_specs.parse_source`.

    Raises:
        InvalidInputError: The specification is invalid, or there are no images.
        DatasetError: The path, the folder of the layout or a listed file is missing or cannot be read.
        ImageReadError: A subfolder cannot be read.
    """
    parsed = parse_source(spec)
    images = _images_at(parsed)
    return Source(os.fspath(parsed.path), tuple(images[: parsed.limit]), parsed.weight)


def check_source(spec: StrPath) -> None:
    """Check that a source is well-formed and that its path exists, as :func:`open_source` does; list no images.

    Raises:
        InvalidInputError, DatasetError: as :func:`open_source`.
    """
    _mode_of(parse_source(spec))


def _images_at(spec: SourceSpec) -> list[Path]:
    mode = _mode_of(spec)
    if stat.S_ISDIR(mode):
        return list_originals(_layout_folder(spec.layout, spec.path))
    if not stat.S_ISREG(mode):
        raise DatasetError(f"{spec.path}: is neither a folder nor a file of photographs")
    return [spec.path] if spec.path.suffix.lower() in FORMATS else read_list(spec.path)


def _mode_of(spec: SourceSpec) -> int:
    try:
        return spec.path.stat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        raise DatasetError(f"{spec.path}: no such folder or file of photographs") from None
    except OSError as error:
        raise DatasetError(f"{spec.path}: cannot be read ({error.strerror or error})") from error


def _layout_folder(layout: str, root: Path) -> Path:
    candidates = [root / below for below in LAYOUTS[layout]]
    for folder in candidates:
        if folder.is_dir():
            return folder
    if any(root.name == Path(below).name for below in LAYOUTS[layout]):
        return root
    expected = " or ".join(str(c) for c in candidates)
    raise DatasetError(f"{root}: does not look like {layout}; expected {expected}")


def sample_keys(images: Iterable[Path], root: Path) -> dict[Path, str]:
    """Map images to their keys: paths relative to ``root``, see :func:`~tsdsr.data.photographs.sample_key`.

    Raises:
        InvalidInputError: Two images have the same key.
    """
    keys: dict[Path, str] = {}
    first: dict[str, Path] = {}
    for path in images:
        keys[path] = key = sample_key(path.relative_to(root).as_posix())
        if first.setdefault(key, path) != path:
            raise InvalidInputError(f"{first[key]} and {path} would both be called {key!r}; rename one of them")
    return keys


def split_photos(photos: Sequence[Photo], validation_share: float) -> tuple[list[int], list[int]]:
    """Split into (training, validation) by a hash of the file name. Adding or removing files moves no other file.

    Returns:
        tuple: numbers of the photographs, in their order.
    """
    held_out = [name_hash(photo) < validation_share * 10_000 for photo in photos]
    return [i for i, out in enumerate(held_out) if not out], [i for i, out in enumerate(held_out) if out]


def name_hash(photo: Photo) -> int:
    """Return a hash of a photograph's file name, from 0 to 9,999."""
    return zlib.crc32(os.fsencode(photo_name(photo))) % 10_000
