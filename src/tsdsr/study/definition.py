"""Definition of a study: its systems, images and pictures, fixed at creation.

A study is a folder::

    study.json      the definition
    pictures/       every picture as PNG without metadata, named by its SHA-256
    votes.sqlite    the votes, see tsdsr.study.votes

The folder is self-contained: it can be copied to the machine that serves it, and later changes to the source folders
do not affect it.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tsdsr.errors import DatasetError, InvalidInputError
from tsdsr.files import write_text
from tsdsr.hashing import hash_bytes

FORMAT = 1
DEFINITION = "study.json"
VOTES = "votes.sqlite"
MAX_SHOWN = 9
"""Largest number of restorations per page: one per digit key 1 to 9."""


@dataclass(frozen=True)
class StudyImage:
    """One image of a study.

    Attributes:
        stem (str): name of the image.
        category (str | None): category of the image.
        input (str): SHA-256 of the upscaled low-resolution picture.
        reference (str): SHA-256 of the ground-truth picture.
        candidates (tuple of str): SHA-256 of the restorations, in the order of :attr:`Study.systems`.
    """

    stem: str
    category: str | None
    input: str
    reference: str
    candidates: tuple[str, ...]


@dataclass(frozen=True)
class Study:
    """The definition of a study.

    Attributes:
        title (str): heading of the page.
        seed (str): secret from which image order, positions and picture addresses are derived.
        systems (tuple of str): names of the compared systems; voters never see them.
        images (tuple of StudyImage): all images.
        shown (int): number of systems shown side by side.
        per_voter (int): number of images per voter.
    """

    title: str
    seed: str
    systems: tuple[str, ...]
    images: tuple[StudyImage, ...]
    shown: int
    per_voter: int

    def __post_init__(self) -> None:
        if twice := sorted({name for name in self.systems if self.systems.count(name) > 1}):
            raise InvalidInputError(f"two systems are called {', '.join(twice)}; name them with NAME=…")
        if "" in self.systems:
            raise InvalidInputError("a system has no name; give NAME=FOLDER")
        if len(self.systems) < 2:
            raise InvalidInputError(f"a study compares two systems or more, got {len(self.systems)}")
        most = min(MAX_SHOWN, len(self.systems))
        if not 2 <= self.shown <= most:
            raise InvalidInputError(f"2 to {most} of {len(self.systems)} systems can be shown at a time: {self.shown}")
        if not 1 <= self.per_voter <= len(self.images):
            raise InvalidInputError(f"a voter can be asked about 1 to {len(self.images)} images, not {self.per_voter}")

    @property
    def categories(self) -> tuple[str, ...]:
        """Categories of the images, sorted; empty if there are none."""
        return tuple(sorted({image.category for image in self.images if image.category is not None}))

    def save(self, folder: Path) -> None:
        """Write ``study.json``. The write is atomic."""
        text = json.dumps({"format": FORMAT, **dataclasses.asdict(self)}, indent=1, ensure_ascii=False)
        write_text(folder / DEFINITION, text + "\n")

    @classmethod
    def load(cls, folder: Path) -> Study:
        """Read a study written by :meth:`save`.

        Raises:
            DatasetError: The study is missing, damaged, or of another format.
        """
        path = folder / DEFINITION
        try:
            data = json.loads(path.read_text(encoding="utf-8"))
            if data["format"] != FORMAT:
                raise DatasetError(f"{path}: format {data['format']} cannot be read; this version writes {FORMAT}")
            return _from_dict(data)
        except FileNotFoundError as error:
            raise DatasetError(f"{path}: not found; make the study with `tsdsr study create`") from error
        except (OSError, KeyError, TypeError, ValueError) as error:
            raise DatasetError(f"{path}: not the definition of a study ({error!r})") from error


def _from_dict(data: Mapping[str, Any]) -> Study:
    images = tuple(StudyImage(**{**image, "candidates": tuple(image["candidates"])}) for image in data["images"])
    fields = {field.name: data[field.name] for field in dataclasses.fields(Study)}
    return Study(**{**fields, "systems": tuple(data["systems"]), "images": images})


def picture_path(folder: Path, key: str) -> Path:
    """Return the path of the picture with SHA-256 ``key``."""
    return folder / "pictures" / f"{key}.png"


def check_pictures(study: Study, folder: Path) -> None:
    """Check that every picture exists and is unchanged.

    Raises:
        DatasetError: A picture is missing or changed.
    """
    for image in study.images:
        for key in (image.input, image.reference, *image.candidates):
            path = picture_path(folder, key)
            try:
                intact = hash_bytes(path.read_bytes()) == key
            except OSError as error:
                raise DatasetError(f"{path}: cannot be read ({error}); {image.stem} needs it, copy it back") from error
            if not intact:
                raise DatasetError(f"{path}: has changed since the study was made; {image.stem} needs it as it was")
