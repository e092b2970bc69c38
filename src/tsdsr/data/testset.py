"""Synthetic test sets with a manifest of all drawn parameters, from which they can be reproduced exactly."""

from __future__ import annotations

import dataclasses
import json
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from tsdsr.data.degradation_presets import PRESETS, DegradationSettings, check_drawing
from tsdsr.data.second_order import SampleRecord, SecondOrderDegradation, operators_for
from tsdsr.errors import DatasetError, FileWriteError, InvalidInputError, TSDSRError
from tsdsr.field_checks import Count, CountOrZero, check_fields
from tsdsr.files import StrPath, as_path, atomic_path, require_writable_folder, write_text
from tsdsr.hashing import hash_pixels, hash_text
from tsdsr.images.listing import list_images
from tsdsr.images.reading import read_rgb
from tsdsr.out_of_memory import memory_reported
from tsdsr.pixels import to_tensor, to_uint8
from tsdsr.result_records import MadeFrom, ResultRecords

MANIFEST = "manifest.jsonl"

PARTS = ("lr", "hr")
"""Folders of a test set: low-quality images and their truths."""

T = TypeVar("T")


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
    box: tuple[CountOrZero, CountOrZero, Count, Count]
    record: SampleRecord

    def to_dict(self) -> dict[str, Any]:
        """Convert to a dictionary for JSON."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> PairItem:
        """The inverse of :meth:`to_dict`.

        Raises:
            ConfigError: a value is not allowed.
        """
        item = cls(**{**data, "box": tuple(data["box"]), "record": SampleRecord.from_dict(data["record"])})
        check_fields(item)
        return item


OnFailure = Callable[[str], None]
"""Called with a message that names a photograph or pair that is left out; without it, the error is raised."""


def plan_test_set(
    root: Path,
    images: Sequence[Path],
    settings: DegradationSettings,
    seed: int,
    crop: int | None,
    count: int | None,
    on_failure: OnFailure | None = None,
) -> Iterator[PairItem]:
    """Draw the items of a test set. Item ``i`` depends only on ``(seed, i)`` and its image.

    Args:
        root (Path): folder of the sharp images.
        images (sequence of Path): image files below ``root``.
        settings (DegradationSettings): degradation settings.
        seed (int): base seed, from 0 to 2**63 - 1.
        crop (int | None): edge of random crops; None uses whole images, cropped to a multiple of the scale.
        count (int | None): number of items, cycling through the images; None is one item per image.
        on_failure (callable | None): called once for each image that cannot be used; its items are left out.

    Returns:
        iterator of PairItem: items, in order.

    Raises:
        InvalidInputError: The seed or count is out of range, the crop is not a multiple of the scale, or an image is
            smaller than the crop.
        DatasetError: Two images would have the same name.
        ImageError: An image cannot be read.
    """
    check_drawing(settings, seed, crop, count)
    names = _names(root, images) if count is None else [f"{i:06d}_{images[i % len(images)].stem}" for i in range(count)]
    return _draw(root, images, names, settings, seed, crop, on_failure)


def _draw(
    root: Path,
    images: Sequence[Path],
    names: list[str],
    settings: DegradationSettings,
    seed: int,
    crop: int | None,
    on_failure: OnFailure | None,
) -> Iterator[PairItem]:
    recipe, photos = SecondOrderDegradation(settings), dict[Path, tuple[str, int, int] | None]()
    for number, name in enumerate(names):
        path = images[number % len(images)]
        if path not in photos:
            photos[path] = _or_report(partial(_inspect, path, crop or settings.scale), on_failure)
        photo = photos[path]
        if photo is None:
            continue
        digest, height, width = photo
        rng = np.random.default_rng((seed, number))
        if crop is None:
            box = (0, 0, width // settings.scale * settings.scale, height // settings.scale * settings.scale)
        else:
            box = (int(rng.integers(width - crop + 1)), int(rng.integers(height - crop + 1)), crop, crop)
        generator = torch.Generator().manual_seed(int(rng.integers(2**62)))
        record = recipe.draw((box[3], box[2]), generator)
        yield PairItem(name, path.relative_to(root).as_posix(), digest, box, record)


def _inspect(path: Path, min_side: int) -> tuple[str, int, int]:
    """Return the pixels' hash, height and width of a photograph."""
    pixels = read_rgb(path)
    height, width = pixels.shape[:2]
    if min(height, width) < min_side:
        raise InvalidInputError(f"{path}: {width}x{height} is smaller than the crop of {min_side}")
    return hash_pixels(pixels), height, width


def _or_report(work: Callable[[], T], on_failure: OnFailure | None) -> T | None:
    """Return the result of some work, or None if it failed and the failure is reported."""
    try:
        return work()
    except (TSDSRError, OSError) as error:
        if on_failure is None:
            raise
        on_failure(str(error))
        return None


def _names(root: Path, images: Sequence[Path]) -> list[str]:
    """Name pairs by stem; by relative path where several images share a stem, with the suffix where they still do.

    Names that differ in case only count as equal, because some file systems do not tell them apart.
    """
    below = [path.relative_to(root) for path in images]
    forms = (
        [path.stem for path in below],
        ["_".join(path.with_suffix("").parts) for path in below],
        ["_".join(path.parts).replace(".", "_") for path in below],
    )
    names = forms[0]
    for form in forms[1:]:
        counts = Counter(map(str.casefold, names))
        names = [long if counts[name.casefold()] > 1 else name for name, long in zip(names, form, strict=True)]
    _require_distinct(names)
    return names


def _require_distinct(names: Iterable[str]) -> None:
    for name, count in Counter(map(str.casefold, names)).items():
        if count > 1:
            raise DatasetError(f"two images would both be called {name!r}; rename one of them")


def write_test_set(
    root: StrPath,
    items: Iterable[PairItem],
    settings: DegradationSettings,
    output: StrPath,
    overwrite: bool = False,
    on_failure: OnFailure | None = None,
) -> Iterator[str]:
    """Write the manifest, then ``lr/NAME.png`` and ``hr/NAME.png`` of each item.

    Existing pairs are kept if the manifest describes exactly these items and their records show them unchanged, so that
    an interrupted run can be repeated. At the end, the folder contains only the manifest's pairs.

    Args:
        root (str | PathLike): folder of the sharp images.
        items (iterable of PairItem): see :func:`plan_test_set` and :func:`read_manifest`.
        settings (DegradationSettings): degradation settings.
        output (str | PathLike): folder of the test set.
        overwrite (bool): remove an existing test set and make all pairs again.
        on_failure (callable | None): called for each pair that cannot be made; it is left out of the manifest.

    Yields:
        str: name of each pair when it is complete.

    Raises:
        DatasetError: No items, a changed source image, two items of one name, or another set or images in the folder.
        MissingDependencyError: OpenCV is not installed.
        InvalidInputError: The folder cannot be written, or is that of the photographs.
        FileWriteError: A file cannot be written.
    """
    root, output, items = Path(root), require_writable_folder(output), list(items)
    if not items:
        raise DatasetError(f"{output}: no pair can be made, so nothing is written")
    _require_distinct(item.name for item in items)
    _require_apart(root, output)
    operators_for(torch.device("cpu"))  # without OpenCV no pair can be made: say so before a set is replaced
    _make_room(output, items, settings, overwrite)
    _write_manifest(output, items, settings)
    recipe, records, failed = SecondOrderDegradation(settings), ResultRecords(), set()
    for item in items:
        if _or_report(partial(_write_pair, root, item, recipe, output, records), on_failure):
            yield item.name
        else:
            failed.add(item.name)
    if failed:
        for item in items:
            if item.name in failed:
                _remove_pair(output, item)
        _write_manifest(output, [item for item in items if item.name not in failed], settings)


def _require_apart(root: Path, output: Path) -> None:
    """Check that the pairs do not come among the photographs."""
    photos, folder = root.resolve(), output.resolve()
    if photos == folder or any(photos.is_relative_to(folder / part) for part in PARTS):
        raise InvalidInputError(f"{output}: the pairs would be written among the photographs; choose another folder")


def _make_room(output: Path, items: list[PairItem], settings: DegradationSettings, overwrite: bool) -> None:
    """Check that the folder holds nothing but pairs of these items; with ``overwrite``, remove the set in it."""
    remedy = "choose another folder, or replace the set with --overwrite"
    old: list[PairItem] = []
    if os.path.lexists(output / MANIFEST):
        before, old = read_manifest(output / MANIFEST)
        wanted = {item.name: item for item in items}
        changed = [item.name for item in old if wanted.get(item.name) != item]
        if before != settings and not overwrite:
            raise DatasetError(f"{output}: contains a test set of another preset; {remedy}")
        if changed and not overwrite:
            raise DatasetError(
                f"{output}: contains a test set of another seed, crop or count, or of other photographs "
                f"({changed[0]} is not of this set); {remedy}"
            )
    folders = [require_writable_folder(output / part) for part in PARTS]
    for path in (folder / f"{item.name}.png" for folder in folders for item in items):
        if path.is_dir():
            raise DatasetError(f"{path}: is a folder where an image belongs; remove it, or choose another folder")
    known = {folder / f"{item.name}.png" for folder in folders for item in old}
    for folder in folders:
        for image in list_images(folder).images if folder.is_dir() else ():
            if folder / image not in known:
                raise DatasetError(
                    f"{folder / image}: is an image that no {MANIFEST} in {output} describes; choose another folder"
                )
    if overwrite:
        for item in old:
            _remove_pair(output, item)


def _remove_pair(output: Path, item: PairItem) -> None:
    for part in PARTS:
        try:
            (output / part / f"{item.name}.png").unlink(missing_ok=True)
        except OSError as error:
            raise FileWriteError(f"{output / part}: {item.name}.png cannot be removed ({error.strerror})") from error


def _write_pair(
    root: Path, item: PairItem, recipe: SecondOrderDegradation, output: Path, records: ResultRecords
) -> bool:
    """Write the two files of a pair, unless both are there and unchanged."""
    low, high = (output / part / f"{item.name}.png" for part in PARTS)
    made_from = _made_from(item, recipe.settings)
    if all(records.state(path, made_from) == "same" for path in (low, high)):
        return True
    pixels = read_rgb(root / item.source)
    if hash_pixels(pixels) != item.sha256:
        raise DatasetError(f"{root / item.source}: is not the image this test set was made from")
    left, top, width, height = item.box
    crop = pixels[top : top + height, left : left + width]
    if crop.shape[:2] != (height, width):
        raise DatasetError(f"{root / item.source}: the crop of {item.name} lies outside the image")
    x_hq = to_tensor(crop)[None]
    with memory_reported(f"{root / item.source}: out of memory; free some, or make smaller crops (--crop)"):
        try:
            images = {high: recipe.target(x_hq)[0], low: recipe.apply(x_hq, [item.record])[0]}
        except (ValueError, ArithmeticError, LookupError) as error:  # parameters that no draw has
            raise DatasetError(f"{item.name}: the parameters in the manifest cannot be applied ({error})") from error
    for path, x in images.items():
        _save(x, path)
        records.add(path, made_from)
    return True


def _made_from(item: PairItem, settings: DegradationSettings) -> MadeFrom:
    """What the files of a pair depend on."""
    parts = {"pair": item.to_dict(), "settings": dataclasses.asdict(settings)}
    return {name: hash_text(json.dumps(part, sort_keys=True)) for name, part in parts.items()}


def _write_manifest(output: Path, items: list[PairItem], settings: DegradationSettings) -> None:
    header = {"format": 1, "settings": dataclasses.asdict(settings)}
    lines = [json.dumps(header), *(json.dumps(item.to_dict()) for item in items)]
    write_text(output / MANIFEST, "\n".join(lines) + "\n")


def read_manifest(path: StrPath) -> tuple[DegradationSettings, list[PairItem]]:
    """Read settings and items of a test set from its manifest.

    Raises:
        DatasetError: The file is missing, damaged, or uses settings unknown to this version.
    """
    path = as_path(path, "manifest")
    try:
        header, *lines = path.read_text(encoding="utf-8").splitlines()
        stored = json.loads(header)["settings"]
        items = [PairItem.from_dict(json.loads(line)) for line in lines]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DatasetError(f"{path}: is not a readable manifest ({error})") from error
    for item in items:
        if not item.name or Path(item.name).name != item.name:
            raise DatasetError(f"{path}: is not a readable manifest (a pair is called {item.name!r})")
    for settings in PRESETS.values():
        if json.loads(json.dumps(dataclasses.asdict(settings))) == stored:
            return settings, items
    raise DatasetError(f"{path}: was made with settings that are not a preset of this version")


def _save(x: Tensor, path: Path) -> None:
    with atomic_path(path) as temporary:
        Image.fromarray(to_uint8(x)).save(temporary, format="PNG")
