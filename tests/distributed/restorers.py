"""Cheap stand-ins for a model, by the name of the function, and pictures that some of them cannot bear."""

from __future__ import annotations

import os
import signal
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image

from tsdsr.errors import ModelError
from tsdsr.images.picture import Picture
from tsdsr.pipeline.batch import Restore

POISON = 23
"""Width of a picture that kills the process."""


def doubling() -> Restore:
    """Repeat each pixel."""
    return lambda picture: replace(picture, pixels=picture.pixels.repeat(2, 0).repeat(2, 1))


def slow() -> Restore:
    """Repeat each pixel, in no hurry."""
    enlarge = doubling()

    def restore(picture: Picture) -> Picture:
        time.sleep(0.1)
        return enlarge(picture)

    return restore


def fragile() -> Restore:
    """Repeat each pixel; die of some pictures as a decoder that reads beyond its memory does."""
    enlarge = doubling()

    def restore(picture: Picture) -> Picture:
        if picture.pixels.shape[1] == POISON:
            os.kill(os.getpid(), signal.SIGKILL)
        return enlarge(picture)

    return restore


def write_pictures(folder: Path, count: int, poison: int | None = None) -> list[str]:
    """Write small pictures, no two alike, and return their paths; one may be poison."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for number in range(count):
        width = POISON if number == poison else 16
        pixels = np.random.default_rng(number).integers(0, 256, (16, width, 3), dtype=np.uint8)
        paths.append(str(folder / f"{number:04d}.png"))
        Image.fromarray(pixels).save(paths[-1])
    return paths


def broken() -> Restore:
    """Stand for a model that no process can load."""
    raise ModelError("its weights are damaged")
