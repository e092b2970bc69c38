"""What a result is made from: the values that are recorded beside it, and that decide whether it is made again."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tsdsr.hashing import hash_text
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
    "JXL": ("quality", "lossless"),
}
"""Format → fields of :class:`WriteOptions` that have an effect."""

_SHORT_DTYPES = {"float32": "fp32", "float16": "fp16", "bfloat16": "bf16"}

_MARK = "color_fix"
"""A key that only the records of restored pictures have."""


@dataclass(frozen=True)
class BatchSettings:
    """The model and settings that the results of a batch are made with.

    Attributes:
        model (str | None): hash of the model's weights; None if unknown, so that no result counts as made with it.
        restore (RestoreOptions): how pictures are restored. The number of tiles at a time has no effect on the result.
        write (WriteOptions): how results are stored.
        dtype (str | torch.dtype): precision, as given.
        seed, icc, engine, preset: as given to ``tsdsr upscale``.
        quantize (str | None): the mode of ``--quantize``, or "fast".
        steady (float): see :mod:`tsdsr.pipeline.steady`; then each result depends on those before, see
            :func:`in_sequence`.
    """

    model: str | None
    restore: RestoreOptions
    write: WriteOptions
    dtype: object = "auto"
    seed: int | None = None
    icc: str = "keep"
    engine: str = "auto"
    quantize: str | None = None
    preset: str = "default"
    steady: float = 0.0

    def made_from(self, job: Job) -> MadeFrom:
        """Return what the result of a job is made from.

        Raises:
            OSError: the input cannot be read.
        """
        return {"input": job.input_hash(), **self.stored_as(image_format(job.destination))}

    def stored_as(self, name: str) -> dict[str, Any]:
        """Return what a result depends on besides the input, as JSON values.

        Args:
            name (str): its format, see :data:`~tsdsr.images.formats.FORMATS`.
        """
        stored = {field: getattr(self.write, field) for field in _WRITTEN_WITH.get(name, ())}
        if stored.get("quality", 0) is None:
            stored["quality"] = DEFAULT_QUALITY[name]
        return {"format": name, **self.restored(), **stored}

    def restored(self) -> dict[str, Any]:
        """Return what restored pixels depend on besides the input, as JSON values."""
        options = self.restore
        size: dict[str, Any] = {"scale": options.scale}
        if options.target_size is not None:
            size = {"target": "{}x{}".format(*options.target_size), "fit": options.fit}
        precision = str(self.dtype).removeprefix("torch.")
        return {
            "model": self.model,
            **size,
            _MARK: options.color_fix,
            "detail": options.detail,
            "tile": options.tile,
            "tile_overlap": options.tile_overlap,
            "dtype": _SHORT_DTYPES.get(precision, precision),
            "seed": None if self.seed is None else int(self.seed),
            "icc": self.icc,
            "engine": self.engine,
            "quantize": self.quantize,
            "preset": self.preset,
            **({"steady": self.steady} if self.steady else {}),
        }


def in_sequence(jobs: Sequence[Job], made_from: Callable[[Job], MadeFrom]) -> Callable[[Job], MadeFrom]:
    """Return what results are made from if each depends on the inputs before it in its folder.

    Args:
        jobs (sequence of Job): frames in order.
        made_from (callable): what the result of a job is made from, but for the frames before.
    """
    after: dict[Path, str] = {}
    before = ""
    for number, job in enumerate(jobs):
        if number and jobs[number - 1].source.parent != job.source.parent:
            before = ""
        after[job.source] = before
        with suppress(OSError):  # reported when the job is done
            before = hash_text(before + job.input_hash())
    return lambda job: {**made_from(job), "after": after[job.source]}


def is_restored(path: Path, records: ResultRecords) -> bool:
    """Return whether a file is a recorded result of a restoration, rather than, say, of a degradation."""
    return records.is_result(path) and _MARK in records.differences(path, {})
