"""Image sources: folders, file lists, layouts of common datasets, and pairing of files by name."""

from __future__ import annotations

import logging
import os
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

import numpy as np
import torch
from numpy.typing import NDArray

from tsdsr.errors import DatasetError, ImageError, InvalidInputError, MissingDependencyError
from tsdsr.files import StrPath
from tsdsr.images.reading import FORMATS, read_rgb

logger = logging.getLogger(__name__)

PHOTO_SUFFIXES = frozenset(FORMATS)
"""Suffixes of photographs in folders: every format that can be read."""

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

PAIR_SUFFIXES = ("_LR4", "_LR", "_HR", "_lq", "_hq", "x4")
"""Stem endings to ignore when matching low- and high-quality files."""


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
        if self.weight <= 0:
            raise InvalidInputError(f"{self.name}: the weight must be positive, got {self.weight}")

    @property
    def root(self) -> Path:
        """The common folder of the images; their keys are relative to it."""
        return Path(os.path.commonpath([path.parent for path in self.images]))


def list_photos(folder: StrPath) -> list[Path]:
    """List all image files below ``folder``, sorted.

    Raises:
        InvalidInputError: The folder is missing or contains no image.
    """
    folder = Path(folder)
    photos = sorted(p for p in Path(folder).rglob("*") if p.suffix.lower() in PHOTO_SUFFIXES)
    if not photos:
        raise InvalidInputError(f"{folder}: no photographs found; known suffixes: {', '.join(FORMATS)}")
    return photos


def read_list(file: StrPath) -> list[Path]:
    """Read image paths from a text file: one per line, relative to the file's folder; ``#`` starts a comment.

    Raises:
        DatasetError: A listed file does not exist.
    """
    file = Path(file)
    lines = (line.split("#")[0].strip() for line in file.read_text().splitlines())
    paths = [file.parent / line for line in lines if line]
    missing = [p for p in paths if not p.is_file()]
    if missing:
        raise DatasetError(f"{file}: {len(missing)} of {len(paths)} listed files do not exist, e.g. {missing[0]}")
    return paths


def open_source(spec: str) -> Source:
    """Open a source given as ``[LAYOUT:]PATH[,limit=N][,weight=W]``.

    Examples: ``folder:photos``, ``div2k:/data/DIV2K``, ``ffhq:/data/FFHQ,limit=10000,weight=0.5``. A path to a text
    file is a list, see :func:`read_list`. ``limit`` keeps the first N images in sorted order.

    Raises:
        InvalidInputError: The specification is invalid, or there are no images.
        DatasetError: The folder of the layout or a listed file is missing.
    """
    head, *options = spec.split(",")
    layout, colon, rest = head.partition(":")
    if not colon or layout not in LAYOUTS:
        layout, rest = "folder", head
    values = dict(option.partition("=")[::2] for option in options)
    if unknown := set(values) - {"limit", "weight"}:
        raise InvalidInputError(f"{spec}: unknown options {sorted(unknown)}; known: limit, weight")
    try:
        limit = int(values["limit"]) if "limit" in values else None
        weight = float(values.get("weight", 1))
    except ValueError as error:
        raise InvalidInputError(f"{spec}: limit is a whole number and weight a number ({error})") from error
    root = Path(rest)
    images = read_list(root) if root.is_file() else list_photos(_layout_folder(layout, root))
    return Source(head, tuple(images[:limit]), weight)


def _layout_folder(layout: str, root: Path) -> Path:
    if not root.is_dir():
        raise DatasetError(f"{root}: no such folder or list of photographs")
    candidates = [root / below for below in LAYOUTS[layout]]
    for folder in candidates:
        if folder.is_dir():
            return folder
    if any(root.name == Path(below).name for below in LAYOUTS[layout]):
        return root
    expected = " or ".join(str(c) for c in candidates)
    raise DatasetError(f"{root}: does not look like {layout}; expected {expected}")


def split_photos(photos: Sequence[Path], validation_share: float) -> tuple[list[Path], list[Path]]:
    """Split into (training, validation) by a hash of the file name. Adding or removing files moves no other file."""
    held_out = {p for p in photos if zlib.crc32(p.name.encode()) % 10_000 < validation_share * 10_000}
    return [p for p in photos if p not in held_out], [p for p in photos if p in held_out]


def files_by_stem(folder: StrPath, suffixes: Sequence[str] = PAIR_SUFFIXES) -> dict[str, Path]:
    """Map stems without ignored endings to the image files below a folder, sorted by file.

    Raises:
        InvalidInputError: The folder is missing or contains no image.
        DatasetError: Two files share a stem.
    """
    folder = Path(folder)
    found: dict[str, Path] = {}
    for path in list_photos(folder):
        stem = path.stem
        for suffix in sorted(suffixes, key=len, reverse=True):
            if stem.endswith(suffix):
                stem = stem.removesuffix(suffix)
                break
        if stem in found:
            raise DatasetError(f"{folder}: {found[stem].name} and {path.name} would both be called {stem!r}")
        found[stem] = path
    return found


class UnreadableFiles:
    """Tracks unusable files of a dataset. The state is shared by all loader processes.

    Each bad file is reported once and skipped from then on.

    Args:
        files (sequence of Path): all files of the dataset.
        limit (float): largest accepted share of bad files.
    """

    def __init__(self, files: Sequence[Path], limit: float = 0.05) -> None:
        self._numbers = {path: i for i, path in enumerate(files)}
        self._bad = torch.zeros(len(files), dtype=torch.bool)
        self._bad.share_memory_()  # type: ignore[no-untyped-call]
        self.limit = limit

    @property
    def count(self) -> int:
        """Number of bad files so far."""
        return int(self._bad.sum())

    def is_bad(self, path: Path) -> bool:
        return bool(self._bad[self._numbers[path]])

    def read(
        self, path: Path, min_side: int, read: Callable[[Path], NDArray[np.uint8]] = read_rgb
    ) -> NDArray[np.uint8] | None:
        """Read the pixels (H, W, 3) of a file. If it is unreadable or too small, report it and return None.

        Args:
            path (Path): one of the files.
            min_side (int): smallest usable height and width.
            read (callable): function that reads a file.

        Raises:
            DatasetError: Too many files are bad.
        """
        try:
            pixels = read(path)
        except (ImageError, MissingDependencyError) as error:
            self.report(path, str(error))
            return None
        height, width = pixels.shape[:2]
        if min(height, width) < min_side:
            self.report(path, f"{path}: {width}x{height} is smaller than {min_side} pixels")
            return None
        return pixels

    def report(self, path: Path, reason: str) -> None:
        """Mark a file as bad and log the reason.

        Raises:
            DatasetError: Too many files are bad.
        """
        if self.is_bad(path):
            return
        self._bad[self._numbers[path]] = True
        logger.warning("left out: %s", reason)
        if self.count > self.limit * len(self._numbers):
            raise DatasetError(
                f"{self.count} of {len(self._numbers)} images cannot be used, more than {self.limit:.0%}; "
                f"the last: {reason}"
            )
