"""Metrics of whole sets of images, such as FID, which read folders themselves."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from PIL import Image
from torch import Tensor

from tsdsr.errors import TSDSRError
from tsdsr.evaluation.scorer import Item, Scorer
from tsdsr.images.reading import is_plain, read_rgb


def score_sets(items: Sequence[Item], scorer: Scorer, systems: int) -> tuple[dict[str, list[float]], dict[str, str]]:
    """Compute set metrics.

    Args:
        items (sequence of Item): readable images.
        scorer (Scorer): holds the metrics.
        systems (int): number of systems.

    Returns:
        tuple: metric name → values of all systems, and metrics that failed with the reason.
    """
    found: dict[str, list[float]] = {}
    failed: dict[str, str] = {}
    for name, network in scorer.set_metrics.items():
        try:
            with gathered([item.gt for item in items if item.gt]) as truth:
                found[name] = [_distance(network, items, k, truth) for k in range(systems)]
        except (RuntimeError, ValueError, OSError, TSDSRError) as error:  # the other metrics are kept
            failed[name] = f"{name} cannot be computed ({error})"
    return found, failed


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
