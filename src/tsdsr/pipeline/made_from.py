"""What a result is made from: the values that are recorded beside it, and that decide whether it is made again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tsdsr.images.formats import image_format
from tsdsr.images.writing import DEFAULT_QUALITY, WriteOptions
from tsdsr.pipeline.jobs import Job
from tsdsr.pipeline.options import RestoreOptions
from tsdsr.result_records import MadeFrom, ResultRecords

_WRITTEN_WITH = {
    "PNG": ("compression",),
    "TIFF": ("compression",),
    "JPEG": ("quality", "subsampling"),
    "WEBP": ("quality", "lossless"),
    "AVIF": ("quality", "subsampling"),
    "HEIF": ("quality", "subsampling"),
}
"""Format → fields of :class:`WriteOptions` that have an effect."""

_MARK = "color_fix"
"""A key that only the records of restored pictures have."""


class Recipe:
    """The model and settings of a batch.

    Args:
        model (str | None): hash of the model's weights; None if unknown, so that no result counts as made with it.
        options (RestoreOptions): how pictures are restored. The number of tiles at a time has no effect on the result.
        written (WriteOptions): how results are stored.
        settings: everything else that the result depends on, as JSON values: seed, dtype, colour profile …
    """

    def __init__(self, model: str | None, options: RestoreOptions, written: WriteOptions, **settings: Any) -> None:
        size: dict[str, Any] = {"scale": options.scale}
        if options.target_size is not None:
            size = {"target": "{}x{}".format(*options.target_size), "fit": options.fit}
        restored = {
            _MARK: options.color_fix,
            "detail": options.detail,
            "tile": options.tile,
            "tile_overlap": options.tile_overlap,
        }
        self._settings = {"model": model, **size, **restored, **settings}
        self._written = written

    def made_from(self, job: Job) -> MadeFrom:
        """Return what the result of a job is made from.

        Raises:
            OSError: the input cannot be read.
        """
        name = image_format(job.destination)
        stored = {field: getattr(self._written, field) for field in _WRITTEN_WITH.get(name, ())}
        if stored.get("quality", 0) is None:
            stored["quality"] = DEFAULT_QUALITY[name]
        return {"input": job.input_hash(), "format": name, **self._settings, **stored}


def is_restored(path: Path, records: ResultRecords) -> bool:
    """Return whether a file is a recorded result of a restoration, rather than, say, of a degradation."""
    return records.is_result(path) and _MARK in records.differences(path, {})
