"""Time of scoring: `tsdsr.evaluation` against a plain loop over pyiqa's metrics, in one run.

    python benchmarks/scoring.py --pred PRED --gt GT [--count N] [--workers 0 2]

Times PSNR, SSIM, LPIPS, DISTS and NIQE, and prints the largest difference between the two for every metric.
"""

from __future__ import annotations

import argparse
import platform
import time
from pathlib import Path

import torch

from tsdsr.evaluation.metrics import select_metrics
from tsdsr.evaluation.pairing import match_folders
from tsdsr.evaluation.pyiqa_metrics import create
from tsdsr.evaluation.scorer import Item, Scorer, ScoringSettings, score_items
from tsdsr.evaluation.scoring import GT
from tsdsr.machine import versions

NAMES = ("psnr", "ssim", "lpips", "dists", "niqe")


def plain(items: list[Item], settings: ScoringSettings) -> tuple[list[dict[str, float]], dict[str, float]]:
    """Score metric by metric and image by image; return the values and the seconds of each metric."""
    load = Scorer(ScoringSettings(select_metrics(["psnr"]))).load
    found: list[dict[str, float]] = [{} for _ in items]
    seconds = {}
    for spec in settings.metrics:
        metric = create(spec, torch.device("cpu"), **spec.options)
        started = time.perf_counter()
        for values, item in zip(found, items, strict=True):
            assert item.gt
            paths = item.outputs if spec.kind == "none" else (*item.outputs, item.gt)
            values[spec.name] = float(metric(*(load(path) for path in paths)))
        seconds[spec.name] = time.perf_counter() - started
    return found, seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pred", type=Path, required=True)
    parser.add_argument("--gt", type=Path, required=True)
    parser.add_argument("--count", type=int)
    parser.add_argument("--workers", type=int, nargs="+", default=[0, 2])
    arguments = parser.parse_args()
    matched = match_folders({"pred": arguments.pred, GT: arguments.gt})[: arguments.count]
    items = [Item(files[GT], (files["pred"],)) for _, files in matched]
    chosen = select_metrics(NAMES)
    expected, seconds = plain(items, ScoringSettings(chosen))
    total = sum(seconds.values())
    used = versions("pyiqa", "torch", "torchvision")
    print(f"{len(items)} pairs, {torch.get_num_threads()} threads, {platform.machine()}, {used}")
    print(f"plain loop: {total:.1f} s (" + ", ".join(f"{n} {s:.1f}" for n, s in seconds.items()) + ")", flush=True)
    for workers in arguments.workers:
        started = time.perf_counter()
        settings = ScoringSettings(chosen, workers=workers)
        found = score_items(items, settings, Scorer(settings))
        taken = time.perf_counter() - started
        worst = {n: max(abs(a[0].values[n] - b[n]) for a, b in zip(found, expected, strict=True)) for n in NAMES}
        print(f"workers {workers}: {taken:.1f} s, {total / taken:.2f} times as fast; differences {worst}", flush=True)


if __name__ == "__main__":
    main()
