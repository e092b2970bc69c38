"""Comparison of several systems on one folder of low-resolution images: outputs, scores and cost."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from PIL import Image

from tsdsr.errors import DatasetError, ImageError, InvalidInputError, MissingDependencyError, TSDSRError
from tsdsr.evaluation.cost import measure
from tsdsr.evaluation.outputs import OutputPlan, make_outputs, plan_outputs
from tsdsr.evaluation.pairing import DEFAULT_SUFFIXES, match_folders
from tsdsr.evaluation.results import Cost, Evaluation
from tsdsr.evaluation.scorer import Scorer, ScoringSettings
from tsdsr.evaluation.scoring import GT, LR, Matched, check_border, named_folders, report_unavailable, score_matched
from tsdsr.evaluation.system import System
from tsdsr.evaluation.terminal import printable
from tsdsr.files import StrPath, require_writable_folder
from tsdsr.images.reading import read_rgb, read_size
from tsdsr.out_of_memory import without_frames


def compare(
    systems: Sequence[System],
    lr: StrPath,
    gt: StrPath | None,
    output: StrPath,
    settings: ScoringSettings,
    *,
    suffixes: Sequence[str] = DEFAULT_SUFFIXES,
    scale: int | None = None,
    runs: int = 5,
    overwrite: bool = False,
    on_image: Callable[[str, int, int], None] | None = None,
    on_note: Callable[[str], None] | None = None,
) -> Evaluation:
    """Run, time and score systems on the same images.

    Outputs are written to ``output/NAME/IMAGE.png``, each with a record of what made it. An output is kept only if its
    record matches the system, its settings and its input, so the same call resumes an interrupted comparison. An image
    on which a system fails is left out for all systems and named in the result.

    Args:
        systems (sequence of System): systems, in the order of the table.
        lr (str | PathLike): folder of inputs.
        gt (str | PathLike | None): folder of ground-truth images; None if all metrics are no-reference.
        output (str | PathLike): folder for outputs.
        settings (ScoringSettings): metrics and how to compute them.
        suffixes (sequence of str): stem endings to ignore.
        scale (int | None): scale; if given, sizes are checked before anything runs.
        runs (int): number of warm runs; the time is their median. 0 skips the cost measurement.
        overwrite (bool): make all outputs again, including those without a record.
        on_image (callable | None): called with (step, finished images, total images).
        on_note (callable | None): called with sentences about unavailable metrics and outputs that are made again.

    Returns:
        Evaluation: scores, with the cost of every system that was run.

    Raises:
        InvalidInputError: Names repeat, an output without a record exists, or a folder cannot be used.
        DatasetError, MetricUnavailableError: As :func:`tsdsr.evaluation.scoring.evaluate`.
        TSDSRError: A system fails on every image; the message names both.
    """
    output = require_writable_folder(output)
    _check_systems(systems, output)
    report = on_image or (lambda what, done, total: None)
    folders = named_folders({s.name: s.folder for s in systems}, gt, lr, settings)
    matched = match_folders(folders, suffixes, leave_out=[output])
    check_border(matched, settings)
    _check_scale(matched, scale)
    made = [system for system in systems if system.folder is None]
    plans = [plan_outputs(system, matched, output / system.name, overwrite, on_note) for system in made]
    # Costs come before the metrics are loaded, whose memory would count.
    costs = {system.name: _first_cost(system, matched, runs) for system in made if runs}
    scorer = Scorer(settings)
    report_unavailable(scorer, on_note)
    complete, problems = _run(plans, matched, report)
    names = [system.name for system in systems]
    found = score_matched(complete, names, settings, scorer, suffixes=suffixes, on_image=partial(report, "scores"))
    timed = tuple(dataclasses.replace(s, cost=costs.get(s.name)) for s in found.systems)
    return dataclasses.replace(found, systems=timed, problems=(*problems, *found.problems))


def _run(
    plans: Sequence[OutputPlan], matched: Matched, report: Callable[[str, int, int], None]
) -> tuple[list[tuple[str, dict[str, Path]]], list[str]]:
    """Make all outputs. Return the images that all systems restored, with the outputs, and sentences about the others.

    Raises:
        DatasetError: No image was restored by all systems.
    """
    failed: set[str] = set()
    problems: list[str] = []
    for plan in plans:
        failures = make_outputs(plan, partial(report, plan.system.name))
        failed |= failures.keys()
        problems += [f"{printable(reason)}; the image is left out" for reason in failures.values()]
    complete = [
        (name, {**files, **{plan.system.name: plan.targets[name] for plan in plans}})
        for name, files in matched
        if name not in failed
    ]
    if not complete:
        raise DatasetError("no image was restored by all systems: " + "; ".join(problems))
    return complete, problems


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


def _check_systems(systems: Sequence[System], output: Path) -> None:
    """Check that every system has a name and a folder of its own, also where names differ only in case."""
    names = [system.name for system in systems]
    if twice := {name for name in names if [n.casefold() for n in names].count(name.casefold()) > 1}:
        raise InvalidInputError(f"two systems are called {', '.join(sorted(twice))}; name them with NAME=…")
    own = {(output / system.name).resolve(): system.name for system in systems if system.folder is None}
    for system in systems:
        if system.folder is not None and (name := own.get(system.folder.resolve())):
            raise InvalidInputError(
                f"{system.folder}: is scored as {system.name}, but {name} writes its outputs there; give another name"
            )


def _check_scale(matched: Matched, scale: int | None) -> None:
    """Check that true images are ``scale`` times as large as inputs.

    Raises:
        DatasetError: One is not.
    """
    for _, files in matched:
        if scale is None or GT not in files:
            return
        try:
            (w1, h1), (w2, h2) = read_size(files[LR]), read_size(files[GT])
        except (ImageError, MissingDependencyError):
            continue  # reported later
        if (w2, h2) != (scale * w1, scale * h1):
            raise DatasetError(
                f"{files[GT]} is {w2}x{h2}, but {scale} times {files[LR]} is {scale * w1}x{scale * h1}; check --scale"
            )


def _first_cost(system: System, matched: Matched, runs: int) -> Cost:
    """Measure the cost of a system on the first image that it can restore.

    Raises:
        TSDSRError: It fails on every image.
    """
    problem = ""
    for _, files in matched:
        try:
            return cost_of(system, Image.fromarray(read_rgb(files[LR])), runs)
        except Exception as error:  # as in make_outputs, which reports the image
            problem = problem or f"{system.name} failed on {files[LR]}: {without_frames(error)}"
    raise TSDSRError(problem)
