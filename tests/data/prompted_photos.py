"""Photographs with prompts, for tests of shards."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image


def write_prompted_photos(folder: Path, count: int) -> Path:
    """Write small pictures, every third in the subfolder ``b``; every other one has a text in ``prompts``."""
    (folder / "b").mkdir(parents=True)
    (folder / "prompts" / "b").mkdir(parents=True)
    for i in range(count):
        name = f"{'b/' if i % 3 == 0 else ''}{i:03d}"
        pixels = np.random.default_rng(i).integers(0, 255, (40, 48, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{name}.png")
        if i % 2 == 0:
            (folder / "prompts" / f"{name}.txt").write_text(f"picture {i}")
    return folder
