"""What one voter sees: order of the images, positions of the restorations, addresses of the pictures.

All of it is drawn from the study's seed and the session's number by a keyed hash. So it is the same after a reload,
can be checked afterwards, and tells a voter nothing: an address is random, belongs to one session, and the same
restoration has another one in every other session.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass

from tsdsr.study.definition import Study, StudyImage


@dataclass(frozen=True)
class Trial:
    """One question to one voter.

    Attributes:
        image (StudyImage): what it is about.
        systems (tuple of str): those shown, in the order of their positions.
        input, reference (str): addresses of these pictures.
        candidates (tuple of str): addresses of the restorations, by position.
    """

    image: StudyImage
    systems: tuple[str, ...]
    input: str
    reference: str
    candidates: tuple[str, ...]


@dataclass(frozen=True)
class Plan:
    """All questions to one voter.

    Attributes:
        trials (tuple of Trial): in order.
        pictures (mapping): address → SHA-256 of the picture.
        choices (mapping): address of a restoration → its trial and system.
    """

    trials: tuple[Trial, ...]
    pictures: Mapping[str, str]
    choices: Mapping[str, tuple[Trial, str]]


def plan_session(study: Study, session: int) -> Plan:
    """The questions of a session; the same whenever it is called."""

    def draw(*what: str) -> str:
        message = json.dumps([session, *what]).encode()
        return hashlib.blake2b(message, key=study.seed.encode()[:64], digest_size=16).hexdigest()

    def trial_of(image: StudyImage) -> Trial:
        by_position = sorted(study.systems, key=lambda name: draw("position", image.stem, name))
        systems = tuple(by_position[: study.shown])
        address = {name: draw("address", image.stem, name) for name in systems}
        low, true = draw("input", image.stem), draw("reference", image.stem)
        return Trial(image, systems, low, true, tuple(address[name] for name in systems))

    ordered = sorted(study.images, key=lambda image: draw("order", image.stem))
    trials = tuple(trial_of(image) for image in ordered[: study.per_voter])
    pictures: dict[str, str] = {}
    choices: dict[str, tuple[Trial, str]] = {}
    for trial in trials:
        files = dict(zip(study.systems, trial.image.candidates, strict=True))
        pictures |= {trial.input: trial.image.input, trial.reference: trial.image.reference}
        for address, name in zip(trial.candidates, trial.systems, strict=True):
            pictures[address] = files[name]
            choices[address] = (trial, name)
    return Plan(trials, pictures, choices)
