"""Records of what each result was made from, so that a result is reused only for the same input and settings.

Each folder of results holds one hidden file with a line of JSON per result; the last line about a result counts. It is
stored beside the results, so that a folder can be moved or copied.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from tsdsr.errors import FileWriteError
from tsdsr.files import StrPath

RECORDS_FILE = ".tsdsr-results.jsonl"
"""Name of the file of records in a folder of results."""

ResultState = Literal["missing", "same", "different", "unknown"]

MadeFrom = Mapping[str, Any]
"""What a result depends on, as JSON values: the input's hash, the model's hash, the settings."""


class ResultRecords:
    """Records of the results in any number of folders. A folder's file is read when a result in it is first asked for.

    Several processes may add records to the same folder.
    """

    def __init__(self) -> None:
        self._folders: dict[Path, dict[str, dict[str, Any]]] = {}

    def state(self, path: StrPath, made_from: MadeFrom) -> ResultState:
        """Compare a result with what is to be made.

        Args:
            path (str | PathLike): the result.
            made_from (mapping): what it would be made from now.

        Returns:
            "missing" if nothing is there; "same" if it was made from the same and has not been changed in size since;
            "different" if it was made from something else; "unknown" if no record tells, or the file was changed.
        """
        path = Path(path)
        if not os.path.lexists(path):
            return "missing"
        record = self._intact_record(path)
        if record is None:
            return "unknown"
        return "different" if self.differences(path, made_from) else "same"

    def differences(self, path: StrPath, made_from: MadeFrom) -> list[str]:
        """Return the keys in which a recorded result differs from what is to be made, sorted; [] without a record."""
        record = self._record(Path(path))
        if record is None:
            return []
        old, new = record["made_from"], json.loads(json.dumps(made_from))
        return sorted(key for key in {*old, *new} if key not in old or key not in new or old[key] != new[key])

    def is_result(self, path: StrPath) -> bool:
        """Whether a file is a recorded result that has not been replaced by a file of another size."""
        return self._intact_record(Path(path)) is not None

    def add(self, path: StrPath, made_from: MadeFrom) -> None:
        """Record a result that has just been written.

        Raises:
            FileWriteError: the record cannot be stored.
        """
        path = Path(path)
        record = {"name": path.name, "size": path.stat().st_size, "made_from": dict(made_from)}
        line = json.dumps(record, sort_keys=True, allow_nan=False) + "\n"
        records = path.parent / RECORDS_FILE
        try:
            # One write in append mode, so that lines of several processes do not mix.
            descriptor = os.open(records, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o666)
            try:
                length = os.fstat(descriptor).st_size
                if length and _last_byte(descriptor) != b"\n":
                    line = "\n" + line  # the line before was cut off
                written = os.write(descriptor, line.encode("ascii"))
            finally:
                os.close(descriptor)
        except OSError as error:
            raise FileWriteError(f"{records}: cannot be written ({error.strerror or error})") from error
        if written != len(line):
            raise FileWriteError(f"{records}: cannot be written (No space left on device)")
        self._records_in(path.parent)[path.name] = json.loads(line)

    def _intact_record(self, path: Path) -> dict[str, Any] | None:
        record = self._record(path)
        try:
            return record if record is not None and path.is_file() and path.stat().st_size == record["size"] else None
        except OSError:
            return None

    def _record(self, path: Path) -> dict[str, Any] | None:
        return self._records_in(path.parent).get(path.name)

    def _records_in(self, folder: Path) -> dict[str, dict[str, Any]]:
        if folder not in self._folders:
            self._folders[folder] = _read(folder / RECORDS_FILE)
        return self._folders[folder]


def _last_byte(descriptor: int) -> bytes:
    os.lseek(descriptor, -1, os.SEEK_END)
    return os.read(descriptor, 1)


def _read(path: Path) -> dict[str, dict[str, Any]]:
    """Read records; a damaged line, such as one cut off by a full disk, only loses that record."""
    try:
        lines = path.read_bytes().split(b"\n")
    except OSError:
        return {}
    records: dict[str, dict[str, Any]] = {}
    for line in lines:
        try:
            record = json.loads(line)
        except ValueError:
            continue
        if _is_record(record):
            records[record["name"]] = record
    return records


def _is_record(value: Any) -> bool:
    return (
        isinstance(value, dict)
        and isinstance(value.get("name"), str)
        and isinstance(value.get("size"), int)
        and isinstance(value.get("made_from"), dict)
    )
