"""Sheets for blind votes: pictures with rows of the input, two restorations in random order, and the truth.

Each restoration stands in each column in half of the rows, drawn at random; or every image takes two rows, one for each
order. Sheets need no server: send them to voters, who answer 1 or 2 for every row. A key, kept apart, says which
restoration stood where; :mod:`tsdsr.study.sheet_votes` counts the answers.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from tsdsr.errors import DatasetError, ImageError, InvalidInputError, MissingDependencyError
from tsdsr.evaluation.pairing import DEFAULT_SUFFIXES, check_sizes, match_folders
from tsdsr.evaluation.terminal import printable
from tsdsr.files import StrPath, as_path, atomic_folder, require_new
from tsdsr.images.reading import read_rgb
from tsdsr.study.sheet_key import SheetKey, SheetRow
from tsdsr.wording import counted

Pixels = NDArray[np.uint8]
Box = tuple[int, int, int, int]
_Matched = tuple[str, dict[str, Path]]  # stem, files

_DRAWN = 8  # windows of an image, of which the most detailed is shown
_GAP, _HEAD = 8, 30  # pixels between windows, and of the line of text above them
_LEAST_WINDOW = 32
_BACKGROUND, _TEXT = (64, 64, 64), (255, 255, 255)
_MOST_SIDE = 16383  # of a WebP file


def write_sheets(
    folder: StrPath,
    key: StrPath,
    systems: Mapping[str, StrPath],
    lr: StrPath,
    gt: StrPath | None = None,
    *,
    count: int | None = None,
    window: int = 256,
    magnify: int = 1,
    per_sheet: int = 4,
    both_orders: bool = False,
    seed: int | None = None,
    image_format: Literal["png", "webp"] = "png",
    suffixes: Sequence[str] = DEFAULT_SUFFIXES,
    on_image: Callable[[int, int], None] | None = None,
) -> SheetKey:
    """Write sheets that compare two folders of restorations, and their key. Images are matched by stem.

    A row shows one window of an image. Of eight windows drawn at random it is the one with most detail, in the truth
    or, without it, in the input; the restorations have no influence.

    Args:
        folder (str | PathLike): new folder for the sheets, ``sheet-01.png`` and so on, lossless.
        key (str | PathLike): new JSON file for the key, outside ``folder``.
        systems (mapping): two names → folders of restorations.
        lr (str | PathLike): folder of low-resolution images, shown enlarged (bicubic).
        gt (str | PathLike | None): folder of ground-truth images; their size is that of the restorations.
        count (int | None): number of images, drawn at random; default all.
        window (int): side of the windows in pixels, at least 32; smaller images are shown whole.
        magnify (int): edge of the square that shows a pixel, at least 1.
        per_sheet (int): rows on a sheet.
        both_orders (bool): show every image in two rows, each system once in each column.
        seed (int | None): seed of every draw; default a random one, stored in the key.
        image_format (str): "png" or "webp".
        suffixes (sequence of str): stem endings to ignore.
        on_image (callable | None): called with (finished, total) rows.

    Raises:
        InvalidInputError: An output exists, a folder is missing or empty, or a number is out of range.
        DatasetError: Files are unmatched, differ in size, or cannot be decoded; nothing is written.
    """
    folder, key = require_new(folder), require_new(key)
    if folder.resolve() in key.resolve().parents:
        raise InvalidInputError(f"{key}: is among the sheets, where voters can see it; choose a place outside {folder}")
    matched = _matched(systems, lr, gt, suffixes)
    count = len(matched) if count is None else count
    if not 1 <= count <= len(matched):
        raise InvalidInputError(f"1 to {counted(len(matched), 'image')} can be shown, not {count}")
    layout = _Layout(3 if gt is None else 4, min(per_sheet, count * (1 + both_orders)), window, magnify)
    seed = secrets.randbits(31) if seed is None else seed
    rng = np.random.default_rng(seed)
    chosen = [matched[k] for k in rng.permutation(len(matched))[:count]]
    plan = _plan(chosen, tuple(systems), both_orders, rng)
    with atomic_folder(folder) as temporary:
        rows = _draw_sheets(temporary, layout, plan, image_format, rng, on_image)
        first, second = map(printable, systems)
        made = SheetKey((first, second), seed, tuple(rows))
        made.save(key)
    return made


@dataclass(frozen=True)
class _Layout:
    """Places on a sheet, in pixels.

    Attributes:
        columns (int): windows in a row.
        per_sheet (int): rows on a sheet.
        window (int): side of a window of an image, before magnification.
        magnify (int): edge of the square that shows a pixel.
    """

    columns: int
    per_sheet: int
    window: int
    magnify: int

    def __post_init__(self) -> None:
        if self.per_sheet < 1 or self.window < _LEAST_WINDOW:
            raise InvalidInputError(
                f"a sheet has at least 1 row, a window {_LEAST_WINDOW} pixels: {self.per_sheet}, {self.window}"
            )
        if self.magnify < 1:
            raise InvalidInputError(f"magnify must be at least 1, got {self.magnify}")
        longest = max(self.left(self.columns), self.top(self.per_sheet))
        if longest > _MOST_SIDE:
            raise InvalidInputError(
                f"a sheet would have a side of {longest} pixels, {_MOST_SIDE} are possible: "
                "take smaller windows, less magnification or fewer rows"
            )

    @property
    def shown(self) -> int:
        """Side of a window on the sheet."""
        return self.window * self.magnify

    def left(self, column: int) -> int:
        return _GAP + column * (self.shown + _GAP)

    def top(self, place: int) -> int:
        return place * (_HEAD + self.shown + _GAP)

    def blank(self, rows: int) -> Image.Image:
        return Image.new("RGB", (self.left(self.columns), self.top(rows)), _BACKGROUND)


def _matched(
    systems: Mapping[str, StrPath], lr: StrPath, gt: StrPath | None, suffixes: Sequence[str]
) -> list[_Matched]:
    """Match the images; keys of the files are "input", "truth" and "=NAME" for each system."""
    if len(systems) != 2:
        raise InvalidInputError(f"sheets compare two systems, got {len(systems)}")
    folders = {f"={name}": as_path(folder, name) for name, folder in systems.items()}
    if gt is not None:
        folders["truth"] = as_path(gt, "gt")
    first, *others = folders
    matched = match_folders({**folders, "input": as_path(lr, "lr")}, suffixes)
    check_sizes([(files[first], files[other]) for _, files in matched for other in others])
    return matched


def _plan(
    chosen: Sequence[_Matched], systems: tuple[str, ...], both: bool, rng: np.random.Generator
) -> list[tuple[_Matched, tuple[str, ...]]]:
    """Draw the rows: the image, and the systems in columns 1 and 2."""
    # Voters lean to one column, so each system stands in each column equally often.
    rows = list(enumerate(((rng.permutation(len(chosen)) + rng.integers(2)) % 2 == 1).tolist()))
    if both:
        # Each half is shuffled by itself, so that the two rows of an image lie at least half the images apart.
        halves = (rows[: len(rows) // 2], rows[len(rows) // 2 :])
        rows += [(half[k][0], not half[k][1]) for half in halves for k in rng.permutation(len(half))]
    return [(chosen[image], systems[::-1] if reverse else systems) for image, reverse in rows]


def _draw_sheets(
    folder: Path,
    layout: _Layout,
    plan: Sequence[tuple[_Matched, tuple[str, ...]]],
    image_format: str,
    rng: np.random.Generator,
    on_image: Callable[[int, int], None] | None,
) -> list[SheetRow]:
    """Draw and store all sheets; return what stands in their rows."""
    rows: list[SheetRow] = []
    boxes: dict[str, Box] = {}
    for start in range(0, len(plan), layout.per_sheet):
        images = plan[start : start + layout.per_sheet]
        name = f"sheet-{start // layout.per_sheet + 1:02d}.{image_format}"
        sheet = layout.blank(len(images))
        for place, ((stem, files), (left, right)) in enumerate(images):
            pictures = _pictures(files, (left, right))
            if stem not in boxes:
                boxes[stem] = _detailed_window(pictures.get("truth", pictures["input"]), layout.window, rng)
            _draw_row(layout, sheet, place, start + place + 1, list(pictures.values()), boxes[stem])
            rows.append(SheetRow(printable(stem), name, (printable(left), printable(right)), boxes[stem]))
            if on_image is not None:
                on_image(len(rows), len(plan))
        sheet.save(folder / name, lossless=True)  # PNG always is
    return rows


def _pictures(files: Mapping[str, Path], order: tuple[str, str]) -> dict[str, Pixels]:
    """Decode the pictures of a row, in the order of its columns, all in the size of the restorations."""
    restored = {name: _decoded(files[f"={name}"]) for name in order}
    height, width = restored[order[0]].shape[:2]
    low = Image.fromarray(_decoded(files["input"]))
    enlarged = np.asarray(low.resize((width, height), Image.Resampling.BICUBIC))
    pictures = {"input": enlarged, **{f"={name}": pixels for name, pixels in restored.items()}}
    if "truth" in files:
        pictures["truth"] = _decoded(files["truth"])
    return pictures


def _draw_row(
    layout: _Layout, sheet: Image.Image, place: int, number: int, pictures: Sequence[Pixels], box: Box
) -> None:
    """Draw the window of each picture, with labels."""
    x, y, w, h = box
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(16)
    top = layout.top(place)
    labels = (f"row {number}: input", "1", "2", "truth")
    for column, pixels in enumerate(pictures):
        left = layout.left(column)
        draw.text((left, top + 7), labels[column], _TEXT, font)
        shown = pixels[y : y + h, x : x + w].repeat(layout.magnify, 0).repeat(layout.magnify, 1)
        sheet.paste(Image.fromarray(shown), (left, top + _HEAD))


def _detailed_window(pixels: Pixels, side: int, rng: np.random.Generator) -> Box:
    """Draw windows of an image (H, W, 3) and return the one whose neighbouring pixels differ most."""
    height, width = pixels.shape[:2]
    w, h = min(side, width), min(side, height)
    grey = pixels.astype(np.float32).mean(-1)
    best, found = -1.0, (0, 0, w, h)
    for _ in range(_DRAWN):
        x, y = int(rng.integers(width - w + 1)), int(rng.integers(height - h + 1))
        part = grey[y : y + h, x : x + w]
        detail = float(np.abs(np.diff(part, axis=0)).sum() + np.abs(np.diff(part, axis=1)).sum())
        if detail > best:
            best, found = detail, (x, y, w, h)
    return found


def _decoded(path: Path) -> Pixels:
    try:
        return read_rgb(path)
    except (ImageError, MissingDependencyError) as error:
        raise DatasetError(f"{error}; no sheets were made") from error
