"""Comparison of several systems on one folder of low-resolution images: outputs, scores and cost."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from PIL import Image

from tsdsr.data.sources import PAIR_SUFFIXES, files_by_stem
from tsdsr.errors import InvalidInputError, TSDSRError
from tsdsr.evaluation.cost import measure
from tsdsr.evaluation.results import Cost, Evaluation
from tsdsr.evaluation.scoring import ScoringSettings, evaluate
from tsdsr.files import StrPath, atomic_path
from tsdsr.images.color_modes import rgb_of
from tsdsr.images.reading import read_rgb

Restore = Callable[[Image.Image], Image.Image]


@dataclass(frozen=True)
class System:
    """A system to evaluate: a function that restores images, or a folder of its outputs.

    Attributes:
        name (str): label in tables and name of its output folder.
        restore (callable | None): RGB image → upscaled image; None for a folder of outputs.
        folder (Path | None): folder of existing outputs.
        network (callable | None): image → seconds spent in the network, without the autoencoder; None for systems
            without an autoencoder.
        parameters (int): number of parameters.
        device, dtype (str): device and precision.
    """

    name: str
    restore: Restore | None = None
    folder: Path | None = None
    network: Callable[[Image.Image], float] | None = None
    parameters: int = 0
    device: str = "cpu"
    dtype: str = "float32"

    def __post_init__(self) -> None:
        if (self.restore is None) == (self.folder is None):
            raise InvalidInputError(f"{self.name}: a system either restores or is a folder of outputs")
        if not re.fullmatch(r"[\w.+ -]+", self.name) or self.name.startswith("."):
            raise InvalidInputError(f"{self.name!r} cannot name a folder; use letters, digits, '.', '+', '-' and '_'")


def compare(
    systems: Sequence[System],
    lr: StrPath,
    gt: StrPath | None,
    output: StrPath,
    settings: ScoringSettings,
    *,
    suffixes: Sequence[str] = PAIR_SUFFIXES,
    runs: int = 5,
    overwrite: bool = False,
    on_image: Callable[[str, int, int], None] | None = None,
) -> Evaluation:
    """Run, time and score systems on the same images.

    Outputs are written to ``output/NAME/STEM.png``. Existing outputs are kept, so the same command resumes an
    interrupted comparison.

    Args:
        systems (sequence of System): systems, in the order of the table.
        lr (str | PathLike): folder of inputs.
        gt (str | PathLike | None): folder of ground-truth images; None if all metrics are no-reference.
        output (str | PathLike): folder for outputs.
        settings (ScoringSettings): metrics and how to compute them.
        suffixes (sequence of str): stem endings to ignore.
        runs (int): number of warm runs; the time is their median. 0 skips the cost measurement.
        overwrite (bool): recompute existing outputs.
        on_image (callable | None): called with (step, finished images, total images).

    Returns:
        Evaluation: scores, with the cost of every system that was run.

    Raises:
        InvalidInputError: Two systems share a name.
        DatasetError, ImageReadError: See :func:`tsdsr.evaluation.scoring.evaluate`.
        TSDSRError: A system fails on an image; the message names both.
    """
    lr = Path(lr)
    gt = None if gt is None else Path(gt)
    output = Path(output)
    names = [system.name for system in systems]
    if twice := {name for name in names if names.count(name) > 1}:
        raise InvalidInputError(f"two systems are called {', '.join(sorted(twice))}; name them with NAME=…")
    inputs = files_by_stem(lr, suffixes)

    def progress(what: str) -> Callable[[int, int], None]:
        return lambda done, total: on_image(what, done, total) if on_image else None

    folders: dict[str, Path] = {}
    costs: dict[str, Cost] = {}
    for system in systems:
        if system.folder is not None:
            folders[system.name] = system.folder
            continue
        folders[system.name] = output / system.name
        _restore_all(system, inputs, folders[system.name], overwrite, progress(system.name))
        if runs:
            costs[system.name] = cost_of(system, _open(next(iter(inputs.values()))), runs)
    found = evaluate(folders, gt, settings, lr=lr, suffixes=suffixes, on_image=progress("scores"))
    with_costs = tuple(dataclasses.replace(s, cost=costs.get(s.name)) for s in found.systems)
    return dataclasses.replace(found, systems=with_costs)


def cost_of(system: System, image: Image.Image, runs: int) -> Cost:
    """Measure time and memory of a system on one image. The system must have a ``restore`` function."""
    assert system.restore is not None
    return measure(
        system.restore,
        image,
        network=system.network and partial(system.network, image),
        parameters=system.parameters,
        device=system.device,
        dtype=system.dtype,
        runs=runs,
    )


def _restore_all(
    system: System, inputs: dict[str, Path], folder: Path, overwrite: bool, progress: Callable[[int, int], None]
) -> None:
    assert system.restore is not None
    for done, (stem, path) in enumerate(inputs.items(), 1):
        target = folder / f"{stem}.png"
        if overwrite or not target.exists():
            try:
                result = system.restore(_open(path))
            except (TSDSRError, RuntimeError, MemoryError) as error:
                raise TSDSRError(f"{system.name} failed on {path}: {error}") from error
            with atomic_path(target) as temporary:
                Image.fromarray(rgb_of(result)).save(temporary, format="PNG", compress_level=1)
        progress(done, len(inputs))


def _open(path: Path) -> Image.Image:
    return Image.fromarray(read_rgb(path))
