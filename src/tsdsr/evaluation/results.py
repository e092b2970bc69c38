"""What an evaluation found: scores of every image, means with their uncertainty, costs; stored as JSON."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tsdsr.errors import DatasetError
from tsdsr.files import atomic_path

FORMAT = 1


@dataclass(frozen=True)
class Scores:
    """One metric over the images of one system.

    Attributes:
        mean (float | None): mean over the images, or the value itself for a metric of whole sets (FID); None when the
            metric was unavailable.
        values (tuple of float): one an image, in the order of :attr:`Evaluation.images`; empty for a metric of sets.
        interval (tuple | None): 95 % bootstrap interval of the mean.
        unavailable (str | None): why there is no value.
    """

    mean: float | None = None
    values: tuple[float, ...] = ()
    interval: tuple[float, float] | None = None
    unavailable: str | None = None


@dataclass(frozen=True)
class Cost:
    """What one image costs a system.

    Attributes:
        seconds (float): median over the warm runs, from image in memory to image in memory.
        seconds_network (float | None): the same without the autoencoder; None for systems without one.
        runs (int): how many warm runs the median is of.
        device, dtype (str): where and in which precision.
        input_size (tuple): width and height of the image that was timed.
        parameters (int): number of weights.
        peak_memory (int | None): most bytes the process (CPU) or the allocator (CUDA) held; None where unknown.
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
    """One system.

    Attributes:
        name (str): label in tables.
        files (tuple of str): its output for each image, in the order of :attr:`Evaluation.images`.
        scores (mapping): metric name → :class:`Scores`, in the order asked for.
        cost (Cost | None): when it was run here.
    """

    name: str
    files: tuple[str, ...]
    scores: Mapping[str, Scores]
    cost: Cost | None = None


@dataclass(frozen=True)
class Evaluation:
    """Systems scored on the same images.

    Attributes:
        images (tuple of str): stems of the pairs.
        gt_files (tuple of str): ground truth of each image; empty when only no-reference metrics were asked for.
        lr_files (tuple of str): low-resolution input of each image; empty when not given.
        systems (tuple of SystemResult): in the order given.
        variants (mapping): metric name → how exactly it is computed.
        settings (mapping): versions, crop, device, time taken; for the reader.
    """

    images: tuple[str, ...]
    gt_files: tuple[str, ...]
    lr_files: tuple[str, ...]
    systems: tuple[SystemResult, ...]
    variants: Mapping[str, str]
    settings: Mapping[str, Any] = field(default_factory=dict)

    @property
    def metrics(self) -> tuple[str, ...]:
        """Names of the metrics, in the order asked for."""
        return tuple(self.variants)

    def to_dict(self) -> dict[str, Any]:
        """For JSON; values that are not finite become strings, which JSON has no numbers for."""
        data: dict[str, Any] = _plain({"format": FORMAT, **dataclasses.asdict(self)})
        return data

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Evaluation:
        """The inverse of :meth:`to_dict`.

        Raises:
            DatasetError: another format.
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
            return cls(**lists, systems=systems, variants=data["variants"], settings=data["settings"])
        except (KeyError, TypeError, ValueError) as error:
            raise DatasetError(f"not the results of an evaluation ({error!r})") from error

    def save(self, path: Path) -> None:
        """Write as JSON; the file appears complete or not at all."""
        with atomic_path(path) as temporary:
            temporary.write_text(json.dumps(self.to_dict(), indent=1, allow_nan=False) + "\n")

    @classmethod
    def load(cls, path: Path) -> Evaluation:
        """Read what :meth:`save` wrote.

        Raises:
            DatasetError: missing or not such a file.
        """
        try:
            return cls.from_dict(json.loads(path.read_text()))
        except (OSError, ValueError, DatasetError) as error:
            raise DatasetError(f"{path}: {error}") from error


def _scores(data: Mapping[str, Any]) -> Scores:
    number = _number
    return Scores(
        None if data["mean"] is None else number(data["mean"]),
        tuple(number(v) for v in data["values"]),
        data["interval"] and (number(data["interval"][0]), number(data["interval"][1])),
        data["unavailable"],
    )


def _number(value: float | str) -> float:
    return float(value)


def _plain(value: Any) -> Any:
    """JSON's own types; infinities (the PSNR of equal images) and NaN as strings."""
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(v) for v in value]
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value
