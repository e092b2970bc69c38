"""Metrics of whole sets of images, such as FID, which read folders themselves."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from tsdsr.errors import TSDSRError
from tsdsr.evaluation.pyiqa_metrics import MetricUnavailableError, create
from tsdsr.evaluation.scorer import Item, ScoringSettings
from tsdsr.images.reading import is_plain, read_rgb


def score_sets(
    items: Sequence[Item], settings: ScoringSettings, systems: int
) -> tuple[dict[str, list[float]], dict[str, str]]:
    """Compute set metrics.

    Args:
        items (sequence of Item): readable images.
        settings (ScoringSettings): see :func:`tsdsr.evaluation.scoring.evaluate`.
        systems (int): number of systems.

    Returns:
        tuple: metric name → values of all systems, and unavailable metrics with the reason.
    """
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
            except (RuntimeError, ValueError, OSError, TSDSRError) as error:  # the other metrics are kept
                missing[spec.name] = f"{spec.name} cannot be computed ({error})"
    return found, missing


def _distance(network: Callable[..., Tensor | float], items: Sequence[Item], system: int, truth: Path) -> float:
    with gathered([item.outputs[system] for item in items]) as outputs:
        return float(network(str(outputs), str(truth), num_workers=0, verbose=False))


@contextmanager
def gathered(files: Sequence[Path]) -> Iterator[Path]:
    """Create a temporary folder with exactly these files, numbered, for metrics that read folders.

    Such metrics decode the files themselves. A file that their decoder may read differently from ours (16 bits,
    transparency, an orientation) is therefore rewritten as plain PNG; other files are symbolic links. All are called
    ``.png``, because such metrics skip suffixes that they do not know; decoders look at the content.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for number, path in enumerate(files):
            link = folder / f"{number:06d}.png"
            if not is_plain(path):
                Image.fromarray(read_rgb(path)).save(link, format="PNG", compress_level=1)
                continue
            try:
                os.symlink(path.resolve(), link)
            except OSError as error:
                raise TSDSRError(f"{link}: cannot be linked to {path} ({error})") from error
        yield folder
