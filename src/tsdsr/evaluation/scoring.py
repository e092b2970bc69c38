"""Scoring of image folders: each image is decoded once for all metrics, in one or several processes."""

from __future__ import annotations

import logging
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from tsdsr.errors import DatasetError, InvalidInputError, TSDSRError
from tsdsr.evaluation.metrics import MetricSpec
from tsdsr.evaluation.pairing import DEFAULT_SUFFIXES, check_sizes, match_folders
from tsdsr.evaluation.pyiqa_metrics import Metric, MetricUnavailableError, create, make_metric
from tsdsr.evaluation.results import Evaluation, Scores, SystemResult
from tsdsr.files import StrPath
from tsdsr.images.reading import is_plain, read_rgb
from tsdsr.machine import versions
from tsdsr.pixels import to_tensor

logger = logging.getLogger(__name__)

GT, LR = "ground truth", "low resolution"
"""Labels of the folders that are not systems."""


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


def evaluate(
    systems: Mapping[str, StrPath],
    gt: StrPath | None,
    settings: ScoringSettings,
    *,
    lr: StrPath | None = None,
    suffixes: Sequence[str] = DEFAULT_SUFFIXES,
    on_image: Callable[[int, int], None] | None = None,
) -> Evaluation:
    """Score folders of restored images.

    Args:
        systems (mapping): name → folder of outputs.
        gt (str | PathLike | None): folder of ground-truth images; None if all metrics are no-reference.
        settings (ScoringSettings): metrics and how to compute them.
        lr (str | PathLike | None): folder of the inputs, for reports.
        suffixes (sequence of str): stem endings to ignore when matching files.
        on_image (callable | None): called with (finished, total) images.

    Returns:
        Evaluation: the scores. A metric that cannot be computed is included with the reason.

    Raises:
        InvalidInputError: A full-reference metric has no ``gt``, or a folder has no images.
        DatasetError: Files are unmatched or pairs differ in size; the message lists them.
        ImageReadError: A file cannot be read.
    """
    matched = match_folders(_named_folders(systems, gt, lr, settings), suffixes)
    items = [Item(files.get(GT), tuple(files[name] for name in systems)) for _, files in matched]
    check_sizes([(item.gt, output) for item in items if item.gt for output in item.outputs])
    started = time.perf_counter()
    each, missing = score_items(items, settings, on_image)
    sets, missing_sets = _score_sets(items, settings, len(systems))
    missing |= missing_sets

    def scores_of(spec: MetricSpec, k: int) -> Scores:
        if spec.name in missing:
            return Scores(unavailable=missing[spec.name])
        return Scores(mean=sets[spec.name][k]) if spec.kind == "set" else summarise([s[k][spec.name] for s in each])

    def result_of(k: int, name: str) -> SystemResult:
        scores = {spec.name: scores_of(spec, k) for spec in settings.metrics}
        return SystemResult(name, tuple(str(item.outputs[k]) for item in items), scores)

    return Evaluation(
        images=tuple(stem for stem, _ in matched),
        gt_files=tuple(str(item.gt) for item in items if item.gt),
        lr_files=tuple(str(files[LR]) for _, files in matched if LR in files),
        systems=tuple(result_of(k, name) for k, name in enumerate(systems)),
        variants={spec.name: f"pyiqa {spec.pyiqa_name}: {spec.variant}" for spec in settings.metrics},
        settings={
            **versions("pyiqa", "torch", "torchvision"),
            "device": settings.device,
            "crop_border": settings.border,
            "suffixes": list(suffixes),
            "seconds": round(time.perf_counter() - started, 2),
        },
    )


def _named_folders(
    systems: Mapping[str, StrPath], gt: StrPath | None, lr: StrPath | None, settings: ScoringSettings
) -> dict[str, Path]:
    """Return all folders by name. Ground truth and inputs have reserved names that no system may use."""
    if gt is None and settings.needs_gt:
        wanting = ", ".join(spec.name for spec in settings.metrics if spec.kind != "none")
        raise InvalidInputError(f"{wanting} compare with true images: give --gt, or choose no-reference metrics")
    others = {label: folder for label, folder in ((GT, gt), (LR, lr)) if folder is not None}
    if clash := others.keys() & systems.keys():
        raise InvalidInputError(f"no system may be called {', '.join(sorted(clash))!r}")
    return {name: Path(folder) for name, folder in {**systems, **others}.items()}


def summarise(values: Sequence[float], resamples: int = 2000, seed: int = 0) -> Scores:
    """Compute the mean and its 95 % interval by the percentile bootstrap over images.

    Args:
        values (sequence of float): one value per image.
        resamples (int): number of bootstrap samples.
        seed (int): random seed, for a reproducible interval.

    Returns:
        Scores: the mean, without an interval for a single image or non-finite values.
    """
    array = np.asarray(values, dtype=np.float64)
    mean = float(array.mean())
    if len(array) < 2 or not np.isfinite(array).all():
        return Scores(mean, tuple(values))
    draws = np.random.default_rng(seed).integers(len(array), size=(resamples, len(array)))
    low, high = np.quantile(array[draws].mean(1), (0.025, 0.975))
    return Scores(mean, tuple(values), (float(low), float(high)))


class Scorer:
    """Computes all metrics of single images; the metrics are created once.

    Args:
        settings (ScoringSettings): metrics and device.

    Attributes:
        unavailable (dict): metric name → reason why it cannot be computed.
    """

    def __init__(self, settings: ScoringSettings) -> None:
        self.device = torch.device(settings.device)
        self.metrics: dict[str, Metric] = {}
        self.unavailable: dict[str, str] = {}
        for spec in settings.metrics:
            if spec.kind != "set":
                try:
                    self.metrics[spec.name] = make_metric(spec, self.device, settings.border)
                except MetricUnavailableError as error:
                    self.unavailable[spec.name] = str(error)

    def load(self, path: Path) -> Tensor:
        """Load an image as a tensor (1, 3, H, W) in [0, 1]."""
        return to_tensor(read_rgb(path))[None].to(self.device)

    def decode(self, item: Item) -> list[Tensor | None]:
        """Load the ground truth, then every output."""
        return [self.load(item.gt) if item.gt else None, *(self.load(path) for path in item.outputs)]

    def score(self, item: Item, images: Sequence[Tensor | None] | None = None) -> list[dict[str, float]]:
        """Score the outputs of all systems; return one mapping (metric name → value) per system.

        Raises:
            DatasetError: A metric rejects an image, for example because it is too small.
        """
        x_hq, *outputs = images or self.decode(item)
        found = []
        for path, x_hat in zip(item.outputs, outputs, strict=True):
            assert x_hat is not None
            values = {}
            for name, metric in self.metrics.items():
                try:
                    values[name] = metric(x_hat, x_hq)
                except (RuntimeError, ValueError, AssertionError, IndexError) as error:
                    raise DatasetError(f"{path}: {name} cannot be computed ({error})") from error
            found.append(values)
        return found


def score_items(
    items: Sequence[Item], settings: ScoringSettings, on_image: Callable[[int, int], None] | None = None
) -> tuple[list[list[dict[str, float]]], dict[str, str]]:
    """Score single images with all metrics except set metrics.

    Args:
        items (sequence of Item): images, at least one.
        settings (ScoringSettings): see :func:`evaluate`.
        on_image (callable | None): called with (finished, total) items.

    Returns:
        tuple: for every item, a list with one mapping (metric name → value) per system; and for every unavailable
        metric, the reason.
    """
    scorer = Scorer(settings)  # created before the workers, so that weights are downloaded once
    found: list[list[dict[str, float]]] = [[] for _ in items]
    in_order = _in_processes if settings.workers > 1 and len(items) > 1 else _in_turn
    for done, (number, scores) in enumerate(in_order(items, settings, scorer), 1):
        found[number] = scores
        if on_image is not None:
            on_image(done, len(items))
    return found, scorer.unavailable


def _in_turn(
    items: Sequence[Item], settings: ScoringSettings, scorer: Scorer
) -> Iterator[tuple[int, list[dict[str, float]]]]:
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


def _work(item: Item) -> list[dict[str, float]]:
    assert _worker is not None
    return _worker.score(item)


def _in_processes(
    items: Sequence[Item], settings: ScoringSettings, scorer: Scorer
) -> Iterator[tuple[int, list[dict[str, float]]]]:
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
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def _score_sets(
    items: Sequence[Item], settings: ScoringSettings, systems: int
) -> tuple[dict[str, list[float]], dict[str, str]]:
    """Compute set metrics: metric name → values of all systems, and unavailable metrics with the reason."""
    found: dict[str, list[float]] = {}
    missing: dict[str, str] = {}
    for spec in settings.metrics:
        if spec.kind == "set":
            try:
                network = create(spec, torch.device(settings.device), **spec.options)
                with gathered([item.gt for item in items if item.gt]) as truth:
                    found[spec.name] = [_distance(network, items, k, truth) for k in range(systems)]
            except MetricUnavailableError as error:
                missing[spec.name] = str(error)
    return found, missing


def _distance(network: Callable[..., Tensor | float], items: Sequence[Item], system: int, truth: Path) -> float:
    with gathered([item.outputs[system] for item in items]) as outputs:
        return float(network(str(outputs), str(truth), num_workers=0, verbose=False))


@contextmanager
def gathered(files: Sequence[Path]) -> Iterator[Path]:
    """Create a temporary folder with exactly these files, numbered, for metrics that read folders.

    Such metrics decode the files themselves. A file that their decoder may read differently from ours (16 bits,
    transparency, an orientation) is therefore rewritten as plain PNG; other files are symbolic links.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for number, path in enumerate(files):
            if not is_plain(path):
                Image.fromarray(read_rgb(path)).save(folder / f"{number:06d}.png", compress_level=1)
                continue
            link = folder / f"{number:06d}{path.suffix.lower()}"
            try:
                os.symlink(path.resolve(), link)
            except OSError as error:
                raise TSDSRError(f"{link}: cannot be linked to {path} ({error})") from error
        yield folder
