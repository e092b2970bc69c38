"""Scoring of folders of restored images: matching, means with intervals, and what could not be scored."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from tsdsr.errors import DatasetError, ImageError, InvalidInputError, MissingDependencyError
from tsdsr.evaluation.metrics import METRICS, MetricSpec
from tsdsr.evaluation.pairing import DEFAULT_SUFFIXES, check_sizes, match_folders
from tsdsr.evaluation.results import Evaluation, Scores, SystemResult
from tsdsr.evaluation.scorer import ImageScores, Item, Scorer, ScoringSettings, score_items
from tsdsr.evaluation.set_metrics import score_sets
from tsdsr.evaluation.terminal import printable
from tsdsr.files import StrPath, as_path
from tsdsr.hashing import hash_file
from tsdsr.images.reading import read_size
from tsdsr.machine import versions

GT, LR = "ground truth", "low resolution"
"""Labels of the folders that are not systems."""

Matched = Sequence[tuple[str, Mapping[str, Path]]]
"""Name of each image, and label of a folder → file."""


def evaluate(
    systems: Mapping[str, StrPath],
    gt: StrPath | None,
    settings: ScoringSettings,
    *,
    lr: StrPath | None = None,
    suffixes: Sequence[str] = DEFAULT_SUFFIXES,
    leave_out: Iterable[StrPath] = (),
    on_image: Callable[[int, int], None] | None = None,
    on_note: Callable[[str], None] | None = None,
) -> Evaluation:
    """Score folders of results.

    Args:
        systems (mapping): name → folder of outputs.
        gt (str | PathLike | None): folder of ground-truth images; None if all metrics are no-reference.
        settings (ScoringSettings): metrics and how to compute them.
        lr (str | PathLike | None): folder of the inputs, for reports.
        suffixes (sequence of str): stem endings to ignore when matching files.
        leave_out (iterable of str | PathLike): folders that are not entered.
        on_image (callable | None): called with (finished, total) images.
        on_note (callable | None): called, before scoring begins, with a sentence for each metric that is unavailable.

    Returns:
        Evaluation: see :func:`score_matched`.

    Raises:
        InvalidInputError: A full-reference metric has no ``gt``, a folder has no images, or the border is larger than
            the images.
        DatasetError: Files are unmatched or pairs differ in size; the message lists them.
        MetricUnavailableError: No metric can be computed.
    """
    folders = named_folders(systems, gt, lr, settings)
    matched = match_folders(folders, suffixes, leave_out)
    check_border(matched, settings)
    scorer = Scorer(settings)
    report_unavailable(scorer, on_note)
    return score_matched(matched, tuple(systems), settings, scorer, suffixes=suffixes, on_image=on_image)


def score_matched(
    matched: Matched,
    systems: Sequence[str],
    settings: ScoringSettings,
    scorer: Scorer,
    *,
    suffixes: Sequence[str] = DEFAULT_SUFFIXES,
    on_image: Callable[[int, int], None] | None = None,
) -> Evaluation:
    """Score matched images.

    An image that cannot be read is left out. An image for which a metric cannot be computed is left out of that metric
    for all systems, so that their means are over the same images.

    Args:
        matched (sequence): name of each image, and label → file; the labels are the systems, :data:`GT`, :data:`LR`.
        systems (sequence of str): names of the systems, in the order of the result.
        settings, suffixes, on_image: see :func:`evaluate`.
        scorer (Scorer): made of ``settings``.

    Returns:
        Evaluation: the scores. A metric that cannot be computed, and images that were left out, come with the reason.

    Raises:
        DatasetError: Pairs differ in size; the message lists them. Or no image can be read.
    """
    items = [Item(files.get(GT), tuple(files[name] for name in systems)) for _, files in matched]
    check_sizes([(item.gt, output) for item in items if item.gt for output in item.outputs])
    started = time.perf_counter()
    each = score_items(items, settings, scorer, on_image)
    problems = [line for item, scores in zip(items, each, strict=True) for line in _problems(item, scores)]
    readable = [k for k, scores in enumerate(each) if not any(s.unreadable for s in scores)]
    if not readable:
        raise DatasetError(f"no image can be scored: {problems[0]}")
    matched, items, each = [matched[k] for k in readable], [items[k] for k in readable], [each[k] for k in readable]
    sets, failed = score_sets(items, scorer, len(systems))
    missing = scorer.unavailable | failed

    def scores_of(spec: MetricSpec, k: int) -> Scores:
        if spec.name in missing:
            return Scores(unavailable=missing[spec.name])
        if spec.kind == "set":
            return Scores(mean=sets[spec.name][k])
        return summarise([_common_value(scores, spec.name, k) for scores in each])

    def result_of(k: int, name: str) -> SystemResult:
        scores = {spec.name: scores_of(spec, k) for spec in settings.metrics}
        return SystemResult(name, tuple(str(item.outputs[k]) for item in items), scores)

    found = Evaluation(
        images=tuple(name for name, _ in matched),
        gt_files=tuple(str(item.gt) for item in items if item.gt),
        lr_files=tuple(str(files[LR]) for _, files in matched if LR in files),
        systems=tuple(result_of(k, name) for k, name in enumerate(systems)),
        variants={spec.name: f"pyiqa {spec.pyiqa_name}: {spec.variant}" for spec in settings.metrics},
        problems=tuple(problems),
        hashes={str(path): hash_file(path) for _, files in matched for path in files.values()},
    )
    return replace(found, settings=_described(settings, suffixes, time.perf_counter() - started))


def _described(settings: ScoringSettings, suffixes: Sequence[str], seconds: float) -> dict[str, object]:
    """What the reader needs to know of how the scores were computed."""
    return {
        **versions("pyiqa", "torch", "torchvision"),
        "device": settings.device,
        "crop_border": settings.border,
        "suffixes": list(suffixes),
        "seconds": round(seconds, 2),
    }


def _common_value(scores: Sequence[ImageScores], metric: str, k: int) -> float:
    """Return a system's value for an image; NaN if any system has none."""
    return scores[k].values[metric] if all(metric in s.values for s in scores) else math.nan


def _problems(item: Item, scores: Sequence[ImageScores]) -> list[str]:
    """Sentences about what of an image could not be scored."""
    lines = []
    for path, found in zip(item.outputs, scores, strict=True):
        if found.unreadable:
            lines.append(f"{found.unreadable}; the image is left out")
        reasons: dict[str, list[str]] = {}
        for name, reason in found.problems.items():
            reasons.setdefault(reason, []).append(METRICS[name].label)
        lines += [f"{path}: no {', '.join(names)} ({reason})" for reason, names in reasons.items()]
    return list(dict.fromkeys(map(printable, lines)))  # an unreadable ground truth concerns all systems


def report_unavailable(scorer: Scorer, on_note: Callable[[str], None] | None) -> None:
    """Say which metrics cannot be computed, and why."""
    for name, reason in scorer.unavailable.items():
        if on_note is not None:
            on_note(f"{METRICS[name].label} will be missing: {reason}")


def named_folders(
    systems: Mapping[str, StrPath | None], gt: StrPath | None, lr: StrPath | None, settings: ScoringSettings
) -> dict[str, Path]:
    """Return all folders by label, except those of systems that have not run yet (None).

    Ground truth and inputs have reserved labels that no system may use.

    Raises:
        InvalidInputError: A full-reference metric has no ``gt``, or a name or folder cannot be used.
    """
    if gt is None and settings.needs_gt:
        wanting = ", ".join(spec.name for spec in settings.metrics if spec.kind != "none")
        raise InvalidInputError(f"ground truth is needed for {wanting}: give --gt, or choose no-reference metrics")
    others = {label: folder for label, folder in ((GT, gt), (LR, lr)) if folder is not None}
    if clash := others.keys() & systems.keys():
        raise InvalidInputError(f"no system may be called {', '.join(sorted(clash))!r}")
    given = {**systems, **others}
    folders = {name: as_path(folder, name) for name, folder in given.items() if folder is not None}
    for folder in folders.values():
        if not folder.is_dir():
            raise InvalidInputError(f"{folder}: {'is a file, not a folder' if folder.exists() else 'no such folder'}")
    return folders


def check_border(matched: Matched, settings: ScoringSettings) -> None:
    """Check that cropping the border leaves something of at least one image.

    Raises:
        InvalidInputError: It leaves nothing.
    """
    if not settings.border or not any(spec.border for spec in settings.metrics):
        return
    largest = (0, 0)
    for _, files in matched:
        try:
            size = read_size(files[GT])
        except (ImageError, MissingDependencyError):
            continue  # reported when it is scored
        if min(size) > 2 * settings.border:
            return
        largest = max(largest, size)
    if min(largest):
        raise InvalidInputError(
            f"a border of {settings.border} pixels on every side leaves nothing of the images, of which the largest is "
            f"{largest[0]}x{largest[1]}; crop less"
        )


def summarise(values: Sequence[float], resamples: int = 2000, seed: int = 0) -> Scores:
    """Compute the mean and its 95 % interval by the percentile bootstrap over images.

    Args:
        values (sequence of float): one value per image, NaN for images that are left out.
        resamples (int): number of bootstrap samples.
        seed (int): random seed, for a reproducible interval.

    Returns:
        Scores: the mean, without an interval for a single image or infinite values. NaN stands for an image that is
        left out.
    """
    array = np.asarray([value for value in values if not math.isnan(value)], dtype=np.float64)
    if not len(array):
        return Scores(None, tuple(values), unavailable="no image can be scored")
    mean = float(array.mean())
    if len(array) < 2 or not np.isfinite(array).all():
        return Scores(mean, tuple(values))
    draws = np.random.default_rng(seed).integers(len(array), size=(resamples, len(array)))
    low, high = np.quantile(array[draws].mean(1), (0.025, 0.975))
    return Scores(mean, tuple(values), (float(low), float(high)))
