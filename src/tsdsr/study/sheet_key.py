"""The key of blind sheets: which system stands in which column of every row."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tsdsr.errors import DatasetError
from tsdsr.files import StrPath, write_text

FORMAT = 1


@dataclass(frozen=True)
class SheetRow:
    """One row of the sheets.

    Attributes:
        image (str): name of the image.
        sheet (str): file that shows the row.
        order (tuple of str): systems in columns 1 and 2.
        box (tuple of int): the window, x, y, width and height in pixels of the results.
    """

    image: str
    sheet: str
    order: tuple[str, str]
    box: tuple[int, int, int, int]


@dataclass(frozen=True)
class SheetKey:
    """The key of a set of sheets. Voters must not see it.

    Attributes:
        systems (tuple of str): the two compared systems.
        seed (int): seed from which images, windows and columns were drawn.
        rows (tuple of SheetRow): the rows; the first is number 1.
    """

    systems: tuple[str, str]
    seed: int
    rows: tuple[SheetRow, ...]

    def save(self, path: StrPath) -> None:
        """Write the key as JSON. The write is atomic."""
        rows = [{"row": number, **dataclasses.asdict(row)} for number, row in enumerate(self.rows, 1)]
        data = {"format": FORMAT, "systems": self.systems, "seed": self.seed, "rows": rows}
        write_text(path, json.dumps(data, indent=1, ensure_ascii=False) + "\n")

    @classmethod
    def load(cls, path: StrPath) -> SheetKey:
        """Read a key written by :meth:`save`.

        Raises:
            DatasetError: The file is missing, damaged, or of another format.
        """
        try:
            data = json.loads(Path(path).read_text(encoding="utf-8"))
            if data["format"] != FORMAT:
                raise DatasetError(f"{path}: format {data['format']} cannot be read; this version writes {FORMAT}")
            return _from_dict(data)
        except FileNotFoundError as error:
            raise DatasetError(f"{path}: not found; `tsdsr study sheets` writes the key") from error
        except (OSError, KeyError, TypeError, ValueError, ArithmeticError, RecursionError) as error:
            raise DatasetError(f"{path}: not the key of blind sheets, or damaged ({_fault(error)})") from error


def _fault(error: Exception) -> str:
    """Say what is wrong with a key, without Python's words."""
    if isinstance(error, KeyError):
        return f"{error.args[0]} is missing"
    if isinstance(error, OSError):
        return str(error.strerror)
    if isinstance(error, _KeyContentError | json.JSONDecodeError):
        return str(error)
    return "its content has another form"


class _KeyContentError(ValueError):
    """What a key says is contradictory or incomplete."""


def _from_dict(data: Mapping[str, Any]) -> SheetKey:
    if len(data["systems"]) != 2:
        raise _KeyContentError("it does not name two systems")
    first, second = map(str, data["systems"])
    rows = []
    for number, row in enumerate(data["rows"], 1):
        left, right = row["order"]
        x, y, width, height = row["box"]
        if row["row"] != number or {left, right} != {first, second}:
            raise _KeyContentError(f"row {number} is wrong")
        rows.append(SheetRow(str(row["image"]), str(row["sheet"]), (left, right), (x, y, width, height)))
    if first == second:
        raise _KeyContentError(f"both systems are called {first}")
    if not rows or len({(row.image, row.order) for row in rows}) < len(rows):
        raise _KeyContentError("no rows" if not rows else "an image stands there twice in the same order")
    return SheetKey((first, second), int(data["seed"]), tuple(rows))
