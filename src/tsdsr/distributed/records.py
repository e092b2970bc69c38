"""Rows of the tables of a run: what is to be restored, and what became of it. Never pixels."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timezone
from typing import Any, Literal

import pyarrow as pa

from tsdsr.errors import InvalidInputError
from tsdsr.hashing import hash_text

Status = Literal["done", "skipped", "failed", "killed"]

PLAN = pa.schema(
    [
        ("input", pa.string()),
        ("output", pa.string()),
        ("bytes", pa.int64()),
        ("stamp", pa.string()),
        ("input_hash", pa.string()),
        ("replaces", pa.bool_()),
    ]
)
"""A picture to restore.

* input, output: URLs, or absolute paths.
* bytes: size of the input; -1 if unknown.
* stamp: see :class:`~tsdsr.remote_files.RemoteFile`; "" if unknown.
* input_hash: if not "", the output is there, made with the same settings from the picture that had this SHA-256, and
  the input has another stamp now. If it still has this hash, its status is "skipped"; if not, "failed", with the words
  of :func:`~tsdsr.pipeline.jobs.not_replaced` (differences ``["input"]``). Nothing is restored.
* replaces: something was at the output when the run was planned.
"""

STATUS = pa.schema(
    [
        ("input", pa.string()),
        ("output", pa.string()),
        ("status", pa.string()),
        ("seconds", pa.float64()),
        ("pixels", pa.int64()),
        ("size", pa.int64()),
        ("error", pa.string()),
        ("notices", pa.list_(pa.string())),
        ("input_hash", pa.string()),
        ("stamp", pa.string()),
        ("settings", pa.string()),
        ("node", pa.string()),
        ("finished_at", pa.timestamp("us", tz="UTC")),
    ]
)
"""What became of a picture.

* input, output, stamp: as planned.
* status: "done"; "skipped", the output was there, made from the same; "failed"; "killed", its process died twice.
* seconds: reading, restoring and writing.
* pixels, size: of the output, in pixels and bytes; 0 if it failed. A skipped one has its size too.
* error: one sentence; "" if there is none. notices: what was converted or dropped.
* input_hash: SHA-256 of the input; "" if it was not read.
* settings: :func:`settings_hash`.
* node: name of the machine.
"""

SCHEMAS = {"plan": PLAN, "status": STATUS}


def status_row(
    input: str,
    output: str,
    status: Status,
    *,
    seconds: float = 0.0,
    pixels: int = 0,
    size: int = 0,
    error: str = "",
    notices: Sequence[str] = (),
    input_hash: str = "",
    stamp: str = "",
    settings: str = "",
    node: str = "",
) -> dict[str, Any]:
    """Return a row of :data:`STATUS` that is finished now."""
    return {
        "input": input, "output": output, "status": status, "seconds": seconds, "pixels": pixels, "size": size,
        "error": error, "notices": list(notices), "input_hash": input_hash, "stamp": stamp, "settings": settings,
        "node": node, "finished_at": datetime.now(timezone.utc),
    }  # fmt: skip


def as_table(rows: Iterable[Mapping[str, Any]], schema: pa.Schema) -> pa.Table:
    """Return rows as a table; a name that is no Unicode is stored with escapes."""
    return pa.Table.from_pylist([{name: _storable(value) for name, value in row.items()} for row in rows], schema)


def named_rows(table: pa.Table) -> list[dict[str, Any]]:
    """Return the rows of a user's table; a name that is missing becomes "", which fails alone.

    Raises:
        InvalidInputError: the table has no columns with names.
    """
    for name in ("input", "output"):
        found = table.schema.field(name).type if name in table.column_names else "no such column"
        values = found.value_type if isinstance(found, pa.DictionaryType) else found
        if values not in (pa.string(), pa.large_string(), pa.null()):
            raise InvalidInputError(f"the rows to restore need a column {name!r} of texts; this dataset has {found}")
    rows = table.select(["input", "output"]).to_pylist()  # others may be called as a column of PLAN by chance
    return [{name: text or "" for name, text in row.items()} for row in rows]


def settings_hash(made_from: Mapping[str, Any]) -> str:
    """Return the hash of what a result depends on besides its input.

    Args:
        made_from (mapping): :meth:`~tsdsr.pipeline.made_from.BatchSettings.stored_as` of the result's format.
    """
    return hash_text(json.dumps(dict(made_from), sort_keys=True, allow_nan=False))


def _storable(value: Any) -> Any:
    return value.encode("utf-8", "backslashreplace").decode() if isinstance(value, str) else value
