"""What a study shows: systems, images and the pictures themselves, fixed when the study is made.

A study is a folder::

    study.json      the definition
    pictures/       every picture as PNG without metadata, named by its SHA-256
    votes.sqlite    the votes, see tsdsr.study.votes

It needs nothing else: it can be copied to the machine that serves it, and nobody's later work on the folders it was
made from changes what voters see.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tsdsr.errors import DatasetError, InvalidInputError
from tsdsr.files import atomic_path
from tsdsr.hashing import hash_bytes

FORMAT = 1
DEFINITION = "study.json"
VOTES = "votes.sqlite"
MAX_SHOWN = 9
"""Restorations a page can show: one a digit key, and more cannot be compared anyway."""


@dataclass(frozen=True)
class StudyImage:
    """One image as it is shown.

    Attributes:
        stem (str): its name.
        category (str | None): what it belongs to.
        input (str): SHA-256 of the low-resolution picture, enlarged.
        reference (str): SHA-256 of the true picture.
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
        seed (str): secret that orders, positions and picture addresses are drawn from.
        systems (tuple of str): names of what is compared; voters never see them.
        images (tuple of StudyImage): all images.
        shown (int): how many of the systems a voter sees beside each other.
        per_voter (int): how many of the images a voter is asked about.
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
        """Sorted; empty when images have none."""
        return tuple(sorted({image.category for image in self.images if image.category is not None}))

    def save(self, folder: Path) -> None:
        """Write ``study.json``; it appears complete or not at all."""
        with atomic_path(folder / DEFINITION) as temporary:
            text = json.dumps({"format": FORMAT, **dataclasses.asdict(self)}, indent=1, ensure_ascii=False)
            temporary.write_text(text + "\n", encoding="utf-8")

    @classmethod
    def load(cls, folder: Path) -> Study:
        """Read what :meth:`save` wrote.

        Raises:
            DatasetError: no such study, or not one of this format.
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
    """The file of a picture by its SHA-256."""
    return folder / "pictures" / f"{key}.png"


def check_pictures(study: Study, folder: Path) -> None:
    """Make sure that every picture is there and is what it was.

    Raises:
        DatasetError: one is missing or changed.
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
