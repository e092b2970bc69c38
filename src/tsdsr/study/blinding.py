"""Blinding: image order, positions of the restorations, and picture addresses of each session.

A keyed hash derives all of these from the study's seed and the session number. They are therefore the same after a
reload and can be verified afterwards. Addresses reveal nothing to voters: they look random, are valid in one session
only, and differ between sessions for the same restoration.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass

from tsdsr.study.definition import Study, StudyImage


@dataclass(frozen=True)
class Trial:
    """One question shown to a voter.

    Attributes:
        image (StudyImage): the image of the question.
        systems (tuple of str): systems shown, in order of position.
        input, reference (str): addresses of the input picture and of the reference picture.
        candidates (tuple of str): addresses of the restorations, in order of position.
    """

    image: StudyImage
    systems: tuple[str, ...]
    input: str
    reference: str
    candidates: tuple[str, ...]


@dataclass(frozen=True)
class Plan:
    """All questions of one session.

    Attributes:
        trials (tuple of Trial): questions, in order.
        pictures (mapping): address → SHA-256 of the picture.
        choices (mapping): address of a restoration → its trial and system.
    """

    trials: tuple[Trial, ...]
    pictures: Mapping[str, str]
    choices: Mapping[str, tuple[Trial, str]]


def plan_session(study: Study, session: int) -> Plan:
    """Return the questions of a session. The result is deterministic."""

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
