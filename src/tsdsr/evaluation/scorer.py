"""Scores of single images with all metrics: each image is decoded once, in one or several processes."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from multiprocessing import get_context
from pathlib import Path

import torch
from torch import Tensor

from tsdsr.errors import ImageError, InvalidInputError, MissingDependencyError, TSDSRError
from tsdsr.evaluation.metrics import METRICS, MetricSpec
from tsdsr.evaluation.pyiqa_metrics import Metric, MetricUnavailableError, create, make_metric
from tsdsr.images.reading import read_rgb
from tsdsr.pixels import to_tensor
from tsdsr.wording import first_line


@dataclass(frozen=True)
class Item:
    """One image: its ground truth and the output of every system.

    Attributes:
        gt (Path | None): ground truth; None without full-reference metrics.
        outputs (tuple of Path): one output per system.
    """

    gt: Path | None
    outputs: tuple[Path, ...]


@dataclass(frozen=True)
class ImageScores:
    """Scores of one output.

    Attributes:
        values (dict): metric name → value.
        problems (dict): metric name → why it has no value.
        unreadable (str): why the image or its ground truth cannot be read; empty if both can.
    """

    values: dict[str, float] = field(default_factory=dict)
    problems: dict[str, str] = field(default_factory=dict)
    unreadable: str = ""


@dataclass(frozen=True)
class ScoringSettings:
    """Settings for scoring.

    Attributes:
        metrics (tuple of MetricSpec): metrics, see :func:`tsdsr.evaluation.metrics.select_metrics`.
        device (str): "cpu", "cuda", …
        border (int): pixels cropped on every side before PSNR and SSIM.
        workers (int): number of processes, which share the threads equally; 0 scores in the current process.
    """

    metrics: tuple[MetricSpec, ...]
    device: str = "cpu"
    border: int = 0
    workers: int = 0

    def __post_init__(self) -> None:
        if not self.metrics:
            raise InvalidInputError("at least one metric is needed")
        if self.border < 0 or self.workers < 0:
            raise InvalidInputError("border and workers must not be negative")

    @property
    def needs_gt(self) -> bool:
        """Whether any metric needs the ground truth."""
        return any(spec.kind != "none" for spec in self.metrics)


Decoded = Sequence["Tensor | str"]
"""The ground truth if there is one, then the outputs: (1, 3, H, W) in [0, 1], or why a picture cannot be read."""


class Scorer:
    """Computes all metrics of single images; the metrics are created once, which downloads their weights.

    Args:
        settings (ScoringSettings): metrics and device.

    Attributes:
        metrics (dict): name → metric of single images.
        set_metrics (dict): name → metric of folders.
        unavailable (dict): metric name → reason why it cannot be computed.

    Raises:
        MissingDependencyError: pyiqa is not installed.
        MetricUnavailableError: No metric can be computed.
    """

    def __init__(self, settings: ScoringSettings) -> None:
        self.device = torch.device(settings.device)
        self.border = settings.border
        self.metrics: dict[str, Metric] = {}
        self.set_metrics: dict[str, Callable[..., Tensor | float]] = {}
        self.unavailable: dict[str, str] = {}
        for spec in settings.metrics:
            try:
                if spec.kind == "set":
                    self.set_metrics[spec.name] = create(spec, self.device, **spec.options)
                else:
                    self.metrics[spec.name] = make_metric(spec, self.device, settings.border)
            except MetricUnavailableError as error:
                self.unavailable[spec.name] = str(error)
        if len(self.unavailable) == len(settings.metrics):
            raise MetricUnavailableError("no metric can be computed: " + "; ".join(self.unavailable.values()))

    def load(self, path: Path) -> Tensor:
        """Load an image as a tensor (1, 3, H, W) in [0, 1]."""
        return to_tensor(read_rgb(path))[None].to(self.device)

    def decode(self, item: Item) -> list[Tensor | str]:
        """Load the ground truth if there is one, then every output. Unreadable files give the reason instead."""
        found: list[Tensor | str] = []
        for path in (*([item.gt] if item.gt else []), *item.outputs):
            try:
                found.append(self.load(path))
            except (ImageError, MissingDependencyError) as error:
                found.append(str(error))
        return found

    def score(self, item: Item, images: Decoded | None = None) -> list[ImageScores]:
        """Score the outputs of all systems. What cannot be computed is returned with the reason, not raised."""
        images = images or self.decode(item)
        x_hq, outputs = (images[0], images[1:]) if item.gt else (None, images)
        return [self._scores(x_hat, x_hq) for x_hat in outputs]

    def _scores(self, x_hat: Tensor | str, x_hq: Tensor | str | None) -> ImageScores:
        if isinstance(x_hat, str) or isinstance(x_hq, str):
            return ImageScores(unreadable=x_hat if isinstance(x_hat, str) else str(x_hq))
        values: dict[str, float] = {}
        problems: dict[str, str] = {}
        for name, metric in self.metrics.items():
            try:
                values[name] = metric(x_hat, x_hq)
                if math.isnan(values[name]):
                    raise ValueError("the result is not a number")
            except (RuntimeError, ValueError, AssertionError, IndexError) as error:
                values.pop(name, None)
                problems[name] = self._reason(name, x_hat, error)
        return ImageScores(values, problems)

    def _reason(self, name: str, x_hat: Tensor, error: Exception) -> str:
        spec, (height, width) = METRICS[name], x_hat.shape[-2:]
        needed = spec.min_side + (2 * self.border if spec.border else 0)
        if min(height, width) < needed:
            return f"needs {needed}x{needed} pixels, got {width}x{height}"
        if bool((x_hat == x_hat[..., :1, :1]).all()):
            return "the picture is of a single colour"
        return first_line(error)


def score_items(
    items: Sequence[Item],
    settings: ScoringSettings,
    scorer: Scorer,
    on_image: Callable[[int, int], None] | None = None,
) -> list[list[ImageScores]]:
    """Score single images with all metrics except set metrics.

    Args:
        items (sequence of Item): images, at least one.
        settings (ScoringSettings): see :func:`tsdsr.evaluation.scoring.evaluate`.
        scorer (Scorer): made of ``settings``; created before the workers, so that weights are downloaded once.
        on_image (callable | None): called with (finished, total) items.

    Returns:
        list: for every item, the scores of every system.
    """
    found: list[list[ImageScores]] = [[] for _ in items]
    in_order = _in_processes if settings.workers > 1 and len(items) > 1 else _in_turn
    for done, (number, scores) in enumerate(in_order(items, settings, scorer), 1):
        found[number] = scores
        if on_image is not None:
            on_image(done, len(items))
    return found


def _in_turn(
    items: Sequence[Item], settings: ScoringSettings, scorer: Scorer
) -> Iterator[tuple[int, list[ImageScores]]]:
    """Score items in order, and decode the next images in the background."""
    with ThreadPoolExecutor(1) as decoder:
        ahead = decoder.submit(scorer.decode, items[0])
        for number, item in enumerate(items):
            images = ahead.result()
            if number + 1 < len(items):
                ahead = decoder.submit(scorer.decode, items[number + 1])
            yield number, scorer.score(item, images)


_worker: Scorer | None = None  # one per process of the pool


def _start_worker(settings: ScoringSettings, threads: int) -> None:
    global _worker
    torch.set_num_threads(threads)
    _worker = Scorer(settings)


def _work(item: Item) -> list[ImageScores]:
    assert _worker is not None
    return _worker.score(item)


def _in_processes(
    items: Sequence[Item], settings: ScoringSettings, scorer: Scorer
) -> Iterator[tuple[int, list[ImageScores]]]:
    """Score items in several processes, and yield them in the order in which they finish."""
    available = tuple(spec for spec in settings.metrics if spec.name in scorer.metrics)
    if not available:
        yield from _in_turn(items, settings, scorer)
        return
    threads = max(1, torch.get_num_threads() // settings.workers)
    workers = ScoringSettings(available, settings.device, settings.border)
    with ProcessPoolExecutor(settings.workers, get_context("spawn"), _start_worker, (workers, threads)) as pool:
        futures = {pool.submit(_work, item): number for number, item in enumerate(items)}
        try:
            for future in as_completed(futures):
                yield futures[future], future.result()
        except BrokenProcessPool as error:
            raise TSDSRError(
                "a scoring process was killed, perhaps for lack of memory; repeat the command with fewer --workers"
            ) from error
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
