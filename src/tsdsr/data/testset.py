"""Synthetic test sets with a manifest of all drawn parameters, from which they can be reproduced exactly."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from tsdsr.data.degradation_presets import PRESETS, DegradationSettings
from tsdsr.data.second_order import SampleRecord, SecondOrderDegradation
from tsdsr.errors import DatasetError, InvalidInputError
from tsdsr.files import StrPath, atomic_path
from tsdsr.hashing import hash_pixels
from tsdsr.images.reading import read_rgb
from tsdsr.pixels import to_tensor, to_uint8

MANIFEST = "manifest.jsonl"


@dataclass(frozen=True)
class PairItem:
    """One pair of a test set.

    Attributes:
        name (str): stem of both files.
        source (str): source image, relative to the folder of sharp images.
        sha256 (str): SHA-256 of the source image's pixels, to detect another version of the file.
        box (tuple): left, top, width, height of the crop in pixels.
        record (SampleRecord): parameters of the degradation.
    """

    name: str
    source: str
    sha256: str
    box: tuple[int, int, int, int]
    record: SampleRecord

    def to_dict(self) -> dict[str, Any]:
        """Convert to a dictionary for JSON."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> PairItem:
        """The inverse of :meth:`to_dict`."""
        return cls(**{**data, "box": tuple(data["box"]), "record": SampleRecord.from_dict(data["record"])})


def plan_test_set(
    root: Path, images: list[Path], settings: DegradationSettings, seed: int, crop: int | None, count: int | None
) -> Iterator[PairItem]:
    """Draw the items of a test set. Item ``i`` depends only on ``(seed, i)`` and its image.

    Args:
        root (Path): folder of the sharp images.
        images (list of Path): image files below ``root``.
        settings (DegradationSettings): degradation settings.
        seed (int): base seed.
        crop (int | None): edge of random crops; None uses whole images, cropped to a multiple of the scale.
        count (int | None): number of items, cycling through the images; None is one item per image.

    Yields:
        PairItem: items, in order.

    Raises:
        InvalidInputError: The crop is larger than an image or not a multiple of the scale.
    """
    if crop is not None and crop % settings.scale:
        raise InvalidInputError(f"a crop of {crop} is not a multiple of the scale {settings.scale}")
    recipe = SecondOrderDegradation(settings)
    for number in range(len(images) if count is None else count):
        path = images[number % len(images)]
        pixels = read_rgb(path)
        height, width = pixels.shape[:2]
        rng = np.random.default_rng((seed, number))
        if crop is None:
            box = (0, 0, width // settings.scale * settings.scale, height // settings.scale * settings.scale)
        elif min(height, width) < crop:
            raise InvalidInputError(f"{path}: {width}x{height} is smaller than the crop of {crop}")
        else:
            box = (int(rng.integers(width - crop + 1)), int(rng.integers(height - crop + 1)), crop, crop)
        generator = torch.Generator().manual_seed(int(rng.integers(2**62)))
        record = recipe.draw((box[3], box[2]), generator)
        name = path.stem if count is None else f"{number:06d}_{path.stem}"
        yield PairItem(name, path.relative_to(root).as_posix(), hash_pixels(pixels), box, record)


def write_test_set(
    root: StrPath, items: Iterator[PairItem], settings: DegradationSettings, output: StrPath
) -> Iterator[str]:
    """Write ``lr/NAME.png``, ``hr/NAME.png`` and, at the end, the manifest. Existing pairs are kept.

    Args:
        root (str | PathLike): folder of the sharp images.
        items (iterator of PairItem): see :func:`plan_test_set` and :func:`read_manifest`.
        settings (DegradationSettings): degradation settings.
        output (str | PathLike): folder of the test set.

    Yields:
        str: name of each pair when it is complete.

    Raises:
        DatasetError: A source image differs from the one in the manifest, or two items share a name.
    """
    root = Path(root)
    output = Path(output)
    recipe, written = SecondOrderDegradation(settings), []
    names: set[str] = set()
    for item in items:
        if item.name in names:
            raise DatasetError(f"two images would both be called {item.name!r}; rename one of them")
        names.add(item.name)
        pixels = read_rgb(root / item.source)
        if hash_pixels(pixels) != item.sha256:
            raise DatasetError(f"{root / item.source}: is not the image this test set was made from")
        low, high = output / "lr" / f"{item.name}.png", output / "hr" / f"{item.name}.png"
        if not (low.is_file() and high.is_file()):
            left, top, width, height = item.box
            x_hq = to_tensor(pixels[top : top + height, left : left + width])[None]
            _save(recipe.target(x_hq)[0], high)
            _save(recipe.apply(x_hq, [item.record])[0], low)
        written.append(item)
        yield item.name
    with atomic_path(output / MANIFEST) as temporary:
        header = {"format": 1, "settings": dataclasses.asdict(settings)}
        lines = [json.dumps(header), *(json.dumps(item.to_dict()) for item in written)]
        temporary.write_text("\n".join(lines) + "\n")


def read_manifest(path: StrPath) -> tuple[DegradationSettings, list[PairItem]]:
    """Read settings and items of a test set from its manifest.

    Raises:
        DatasetError: The file is missing, damaged, or uses settings unknown to this version.
    """
    path = Path(path)
    try:
        header, *lines = path.read_text().splitlines()
        stored = json.loads(header)["settings"]
        items = [PairItem.from_dict(json.loads(line)) for line in lines]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DatasetError(f"{path}: is not a readable manifest ({error})") from error
    for settings in PRESETS.values():
        if json.loads(json.dumps(dataclasses.asdict(settings))) == stored:
            return settings, items
    raise DatasetError(f"{path}: was made with settings that are no preset of this version")


def _save(x: Tensor, path: Path) -> None:
    with atomic_path(path) as temporary:
        Image.fromarray(to_uint8(x)).save(temporary, format="PNG")
