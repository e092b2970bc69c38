"""Where images lie: folders, lists, the layouts of the usual datasets, and low/high-quality pairs by file name."""

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
from tsdsr.images.reading import read_rgb

logger = logging.getLogger(__name__)

PHOTO_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".webp", ".tif", ".tiff", ".bmp"})

LAYOUTS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "folder": (".",),
        "div2k": ("DIV2K_train_HR", "DIV2K/DIV2K_train_HR"),
        "flickr2k": ("Flickr2K_HR", "Flickr2K/Flickr2K_HR"),
        "lsdir": ("HR/train", "train/HR", "LSDIR/HR/train", "HR"),
        "ffhq": ("images1024x1024", "ffhq/images1024x1024", "images512x512"),
    }
)
"""Dataset → folders below its root that hold the high-quality images, the first that exists counts."""

PAIR_SUFFIXES = ("_LR4", "_LR", "_HR", "_lq", "_hq", "x4")
"""Endings of file stems that do not count when low- and high-quality files are matched."""


@dataclass(frozen=True)
class Source:
    """Images that belong together.

    Attributes:
        name (str): for messages.
        images (tuple of Path): the files, sorted.
        weight (float): share of the samples, relative to other sources.
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
        """The folder that keys of the images are relative to."""
        return Path(os.path.commonpath([path.parent for path in self.images]))


def list_photos(folder: Path) -> list[Path]:
    """All image files below ``folder``, sorted.

    Raises:
        InvalidInputError: the folder is missing or holds no image.
    """
    photos = sorted(p for p in Path(folder).rglob("*") if p.suffix.lower() in PHOTO_SUFFIXES)
    if not photos:
        raise InvalidInputError(f"{folder}: no photographs found; give a folder with PNG, JPEG, WebP or TIFF files")
    return photos


def read_list(file: Path) -> list[Path]:
    """Image paths from a text file, one a line, relative to the file's folder; ``#`` begins a comment.

    Raises:
        DatasetError: a listed file does not exist.
    """
    lines = (line.split("#")[0].strip() for line in file.read_text().splitlines())
    paths = [file.parent / line for line in lines if line]
    missing = [p for p in paths if not p.is_file()]
    if missing:
        raise DatasetError(f"{file}: {len(missing)} of {len(paths)} listed files do not exist, e.g. {missing[0]}")
    return paths


def open_source(spec: str) -> Source:
    """A source from its short description ``[LAYOUT:]PATH[,limit=N][,weight=W]``.

    ``folder:photos``, ``div2k:/data/DIV2K``, ``ffhq:/data/FFHQ,limit=10000,weight=0.5``. A path to a text file is a
    list. FFHQ is limited to its first N images in numerical order by ``limit``.

    Raises:
        InvalidInputError: the description is wrong, or there are no images.
        DatasetError: the layout's folder or a listed file is missing.
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
    """Split into (training, validation) by a hash of the file name: stable whatever is added or removed."""
    held_out = {p for p in photos if zlib.crc32(p.name.encode()) % 10_000 < validation_share * 10_000}
    return [p for p in photos if p not in held_out], [p for p in photos if p in held_out]


def files_by_stem(folder: Path, suffixes: Sequence[str] = PAIR_SUFFIXES) -> dict[str, Path]:
    """Stem without its customary ending → image file below the folder, sorted by file.

    Raises:
        InvalidInputError: the folder is missing or holds no image.
        DatasetError: two files share a stem.
    """
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
    """Remembers which files of a dataset cannot be used; shared by all loader processes.

    Each bad file is reported once and left out from then on.

    Args:
        files (sequence of Path): all files of the dataset.
        limit (float): largest tolerated share of bad files.
    """

    def __init__(self, files: Sequence[Path], limit: float = 0.05) -> None:
        self._numbers = {path: i for i, path in enumerate(files)}
        self._bad = torch.zeros(len(files), dtype=torch.bool)
        self._bad.share_memory_()  # type: ignore[no-untyped-call]
        self.limit = limit

    @property
    def count(self) -> int:
        """How many files were found bad."""
        return int(self._bad.sum())

    def is_bad(self, path: Path) -> bool:
        return bool(self._bad[self._numbers[path]])

    def read(
        self, path: Path, min_side: int, read: Callable[[Path], NDArray[np.uint8]] = read_rgb
    ) -> NDArray[np.uint8] | None:
        """The pixels (H, W, 3) of a file; None, and the file reported, where it cannot be read or is too small.

        Args:
            path (Path): one of the files.
            min_side (int): smallest height and width that can be used.
            read (callable): reads a file.

        Raises:
            DatasetError: too many files are bad.
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
        """Leave a file out from now on.

        Raises:
            DatasetError: too many files are bad.
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
