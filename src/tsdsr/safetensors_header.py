"""safetensors files without the package of that name: where each tensor lies, and its values as numpy arrays.

A file is 8 bytes with the length of the header, the header (JSON: name → dtype, shape, begin and end), and the tensors
as raw little-endian values, without gaps.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tsdsr.errors import ModelNotFoundError, WeightsError

_NUMPY = {
    "F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2", "I64": "<i8", "I32": "<i4", "I16": "<i2", "I8": "i1",
    "U64": "<u8", "U32": "<u4", "U16": "<u2", "U8": "u1", "BOOL": "?",
}  # fmt: skip
"""safetensors' names of kinds of values → numpy's; numpy has none for bfloat16, whose bits are read as integers."""

_LARGEST_HEADER = 100_000_000
"""Bytes; the limit of the safetensors package."""


@dataclass(frozen=True)
class StoredArray:
    """Where a tensor lies in a safetensors file.

    Attributes:
        dtype (str): safetensors' name of the kind of values: F32, F16, BF16, I64 …
        shape (tuple of int): its shape.
        offset (int): position of its first byte, from the start of the file.
        length (int): its size in bytes.
    """

    dtype: str
    shape: tuple[int, ...]
    offset: int
    length: int


def read_header(path: Path) -> dict[str, StoredArray]:
    """Read where the tensors of a file lie, by name, and check that the file is complete.

    Raises:
        ModelNotFoundError: the file does not exist.
        WeightsError: it cannot be read, is no safetensors file, is damaged or is incomplete.
    """
    try:
        with path.open("rb") as file:
            size = file.seek(0, 2)
            file.seek(0)
            length = int.from_bytes(file.read(8), "little")
            if size < 8 or length > min(size - 8, _LARGEST_HEADER):
                raise ValueError(f"the header claims {length} bytes, but the file has {size}")
            entries = json.loads(file.read(length).decode(), object_pairs_hook=_without_repeats)
        return _located(entries, 8 + length, size)
    except FileNotFoundError:
        raise ModelNotFoundError(f"{path}: is missing; copy or convert the model again") from None
    except (OSError, ValueError, RecursionError) as error:
        raise WeightsError(f"{path}: is damaged or incomplete ({error}); copy the model again") from error


def read_array(path: Path, stored: StoredArray) -> NDArray[Any]:
    """Read one tensor; bfloat16 becomes float32.

    Raises:
        WeightsError: the file cannot be read or has become shorter, or numpy has no such kind of values.
    """
    if stored.dtype not in _NUMPY:
        raise WeightsError(f"{path}: a tensor is stored as {stored.dtype}, which numpy cannot read")
    try:
        with path.open("rb") as file:
            file.seek(stored.offset)
            content = file.read(stored.length)
        values = np.frombuffer(content, _NUMPY[stored.dtype]).reshape(stored.shape)
    except (OSError, ValueError) as error:
        raise WeightsError(f"{path}: is damaged or incomplete ({error}); copy the model again") from error
    if stored.dtype == "BF16":  # the upper half of a float32
        return (values.astype(np.uint32) << 16).view(np.float32)
    return values


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Build a JSON object; raise ValueError if a name occurs twice."""
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name occurs twice in the header")
    return found


def _located(entries: Any, start: int, size: int) -> dict[str, StoredArray]:
    """Check the entries of a header, whose offsets count from ``start``, in a file of ``size`` bytes.

    Raises:
        ValueError: an entry is invalid, or the tensors do not fill the file.
    """
    if not isinstance(entries, dict):
        raise ValueError("the header is not a JSON object")
    found = {name: _entry(name, entry, start) for name, entry in entries.items() if name != "__metadata__"}
    position = start
    for name, stored in sorted(found.items(), key=lambda item: (item[1].offset, item[1].length)):
        if stored.offset != position:
            raise ValueError(f"{name} begins at byte {stored.offset}, not at {position}")
        position += stored.length
    if position != size:
        raise ValueError(f"{position} bytes are described, but the file has {size}")
    return found


def _entry(name: str, entry: Any, start: int) -> StoredArray:
    if not isinstance(entry, dict) or entry.keys() != {"dtype", "shape", "data_offsets"}:
        raise ValueError(f"the entry of {name} is invalid")
    dtype, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not isinstance(dtype, str) or not _counts(shape) or not _counts(offsets) or len(offsets) != 2:
        raise ValueError(f"the entry of {name} is invalid")
    length = offsets[1] - offsets[0]
    wanted = math.prod(shape) * np.dtype(_NUMPY[dtype]).itemsize if dtype in _NUMPY else max(length, 0)
    if length != wanted:
        raise ValueError(f"{name} has {length} bytes, but its shape asks for {wanted}")
    return StoredArray(dtype, tuple(shape), start + offsets[0], length)


def _counts(values: Any) -> bool:
    """Whether a JSON value is a list of numbers that count something."""
    return isinstance(values, list) and all(type(value) is int and value >= 0 for value in values)
