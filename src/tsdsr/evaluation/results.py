"""Results of an evaluation: per-image scores, means with intervals, and costs, stored as JSON."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from tsdsr.errors import DatasetError
from tsdsr.files import StrPath, as_path, write_text

FORMAT = 1


@dataclass(frozen=True)
class Scores:
    """Scores of one metric for one system.

    Attributes:
        mean (float | None): mean over the images, or the value itself for a set metric (FID); None if the metric was
            unavailable.
        values (tuple of float): one value per image, in the order of :attr:`Evaluation.images`; NaN for an image that
            was left out; empty for set metrics.
        interval (tuple | None): 95 % bootstrap interval of the mean.
        unavailable (str | None): reason why there is no value.
    """

    mean: float | None = None
    values: tuple[float, ...] = ()
    interval: tuple[float, float] | None = None
    unavailable: str | None = None


@dataclass(frozen=True)
class Cost:
    """Time and memory that a system needs for one image.

    Attributes:
        seconds (float): median over the warm runs, from image in memory to image in memory.
        seconds_network (float | None): the same without the autoencoder; None for systems without one.
        runs (int): number of warm runs.
        device (str): device of the system.
        dtype (str): its precision.
        input_size (tuple): width and height of the input image.
        parameters (int): number of parameters.
        peak_memory (int | None): peak memory of the process (CPU) or the allocator (CUDA) in bytes; None if unknown.
    """

    seconds: float
    seconds_network: float | None
    runs: int
    device: str
    dtype: str
    input_size: tuple[int, int]
    parameters: int
    peak_memory: int | None = None


@dataclass(frozen=True)
class SystemResult:
    """Results of one system.

    Attributes:
        name (str): label in tables.
        files (tuple of str): output for each image, in the order of :attr:`Evaluation.images`.
        scores (mapping): metric name → :class:`Scores`, in the requested order.
        cost (Cost | None): time and memory; None if the system was not run.
    """

    name: str
    files: tuple[str, ...]
    scores: Mapping[str, Scores]
    cost: Cost | None = None


@dataclass(frozen=True)
class Evaluation:
    """Results of several systems on the same images.

    Attributes:
        images (tuple of str): stems of the images.
        gt_files (tuple of str): ground truth of each image; empty if there is none.
        lr_files (tuple of str): low-resolution input of each image; empty if not given.
        systems (tuple of SystemResult): results, in the given order of systems.
        variants (mapping): metric name → description of the exact variant.
        settings (mapping): versions, crop, device and duration, for the reader.
        problems (tuple of str): sentences about images that were left out.
        hashes (mapping): file → SHA-256 of the content that was scored.
    """

    images: tuple[str, ...]
    gt_files: tuple[str, ...]
    lr_files: tuple[str, ...]
    systems: tuple[SystemResult, ...]
    variants: Mapping[str, str]
    settings: Mapping[str, Any] = field(default_factory=dict)
    problems: tuple[str, ...] = ()
    hashes: Mapping[str, str] = field(default_factory=dict)

    @property
    def metrics(self) -> tuple[str, ...]:
        """Names of the metrics, in the requested order."""
        return tuple(self.variants)

    def to_dict(self) -> dict[str, Any]:
        """Convert to JSON types. Non-finite values become strings, because JSON has no numbers for them."""
        data: dict[str, Any] = _plain({"format": FORMAT, **dataclasses.asdict(self)})
        return data

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Evaluation:
        """The inverse of :meth:`to_dict`.

        Raises:
            DatasetError: The data have another format.
        """
        try:
            if data["format"] != FORMAT:
                raise DatasetError(f"results of format {data['format']} cannot be read; this version writes {FORMAT}")
            systems = tuple(
                SystemResult(
                    system["name"],
                    tuple(system["files"]),
                    {name: _scores(scores) for name, scores in system["scores"].items()},
                    system["cost"] and Cost(**{**system["cost"], "input_size": tuple(system["cost"]["input_size"])}),
                )
                for system in data["systems"]
            )
            lists = {name: tuple(data[name]) for name in ("images", "gt_files", "lr_files")}
            return cls(
                **lists,
                systems=systems,
                variants=data["variants"],
                settings=data["settings"],
                problems=tuple(data.get("problems", ())),
                hashes=dict(data.get("hashes", {})),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise DatasetError(f"not the results of an evaluation ({error!r})") from error

    def save(self, path: StrPath) -> None:
        """Write the results as JSON. The write is atomic."""
        write_text(path, json.dumps(self.to_dict(), indent=1, allow_nan=False) + "\n")

    @classmethod
    def load(cls, path: StrPath) -> Evaluation:
        """Read results written by :meth:`save`.

        Raises:
            DatasetError: The file is missing or not a result file.
        """
        path = as_path(path, "results")
        try:
            return cls.from_dict(json.loads(path.read_text(encoding="utf-8")))
        except (OSError, ValueError, DatasetError) as error:
            raise DatasetError(f"{path}: {error}") from error


def _scores(data: Mapping[str, Any]) -> Scores:
    return Scores(
        None if data["mean"] is None else float(data["mean"]),
        tuple(float(v) for v in data["values"]),
        data["interval"] and (float(data["interval"][0]), float(data["interval"][1])),
        data["unavailable"],
    )


def _plain(value: Any) -> Any:
    """Convert to JSON types, with infinities (the PSNR of equal images) and NaN as strings."""
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(v) for v in value]
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value
