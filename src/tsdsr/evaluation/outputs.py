"""Outputs of a compared system: which exist and come from the same system and input, and making the others."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

import tsdsr
from tsdsr.errors import DatasetError, InvalidInputError, TSDSRError
from tsdsr.evaluation.scoring import GT, LR, Matched
from tsdsr.evaluation.system import System
from tsdsr.files import atomic_path, require_writable_folder
from tsdsr.hashing import hash_file
from tsdsr.images.color_modes import rgb_of
from tsdsr.images.reading import read_rgb, read_size
from tsdsr.out_of_memory import without_frames
from tsdsr.result_records import ResultRecords
from tsdsr.wording import counted


@dataclass(frozen=True)
class OutputPlan:
    """Outputs of one system.

    Attributes:
        system (System): the system.
        inputs, targets (dict): name of each image → its input, its output.
        truths (dict): name → ground truth; empty without one.
        made_from (dict): name → what the output is made from; images whose input cannot be opened have no entry.
        to_make (frozenset of str): names of the outputs that are missing or made from something else.
        records (ResultRecords): records of the folder.
    """

    system: System
    inputs: dict[str, Path]
    targets: dict[str, Path]
    truths: dict[str, Path]
    made_from: dict[str, dict[str, Any]]
    to_make: frozenset[str]
    records: ResultRecords


def plan_outputs(
    system: System,
    matched: Matched,
    folder: Path,
    overwrite: bool,
    on_note: Callable[[str], None] | None = None,
) -> OutputPlan:
    """Find out which outputs can be kept. Nothing is written.

    Args:
        system (System): the system.
        matched (sequence): name of each image and label → file.
        folder (Path): folder of the system's outputs.
        overwrite (bool): make all outputs, also in place of files that no record tells of.
        on_note (callable | None): called with a sentence if outputs of something else are made again.

    Raises:
        InvalidInputError: A file without a record is in the way, or the folder cannot be written.
    """
    require_writable_folder(folder)
    # Without a description, a value that no other run has: such outputs are never reused.
    made_by = {"run": secrets.token_hex(8)} if system.made_from is None else dict(system.made_from)
    made_by["tsdsr"] = tsdsr.__version__
    inputs = {name: files[LR] for name, files in matched}
    targets = {name: folder / f"{name}.png" for name in inputs}
    truths = {name: files[GT] for name, files in matched if GT in files}
    records = ResultRecords()
    made_from: dict[str, dict[str, Any]] = {}
    to_make, foreign, others = set(inputs) if overwrite else set(), [], {}
    for name, path in inputs.items():
        try:
            made_from[name] = {**made_by, "input": hash_file(path)}
        except OSError:
            to_make.add(name)  # reading it reports the reason
            continue
        state = records.state(targets[name], made_from[name])
        if overwrite or state == "missing":
            to_make.add(name)
        elif state == "unknown":
            foreign.append(targets[name])
        elif state == "different":
            to_make.add(name)
            others[name] = records.differences(targets[name], made_from[name])
    if foreign:
        raise InvalidInputError(
            f"{foreign[0]}: exists, but no record says what made it ({counted(len(foreign), 'such file')}); give "
            "--overwrite to replace it, or another folder with -o"
        )
    if others and on_note is not None:
        differences = sorted(set().union(*others.values()))
        on_note(
            f"{system.name}: {counted(len(others), 'output')} in {folder} made from something else "
            f"({', '.join(differences)}) will be made again"
        )
    return OutputPlan(system, inputs, targets, truths, made_from, frozenset(to_make), records)


def make_outputs(plan: OutputPlan, progress: Callable[[int, int], None]) -> dict[str, str]:
    """Run a system on the images whose outputs are to be made.

    Args:
        plan (OutputPlan): what to make.
        progress (callable): called with (finished, total) images.

    Returns:
        dict: name → why the image has no output.

    Raises:
        TSDSRError: The system fails on every image.
        DatasetError: An output differs in size from the ground truth.
        FileWriteError: An output cannot be written.
    """
    failures: dict[str, str] = {}
    for done, name in enumerate(plan.inputs, 1):
        if name in plan.to_make:
            try:
                result = _restored(plan, name)
            except Exception as error:  # systems of others raise any exception, and the other images are unaffected
                failures[name] = f"{plan.system.name} failed on {plan.inputs[name]}: {without_frames(error)}"
            else:
                _store(plan, name, result)
        progress(done, len(plan.inputs))
    if len(failures) == len(plan.inputs):
        raise TSDSRError(next(iter(failures.values())))
    return failures


def _restored(plan: OutputPlan, name: str) -> Image.Image:
    assert plan.system.restore is not None
    return plan.system.restore(Image.fromarray(read_rgb(plan.inputs[name])))


def _store(plan: OutputPlan, name: str, result: Image.Image) -> None:
    truth = plan.truths.get(name)
    try:
        size = None if truth is None else read_size(truth)
    except TSDSRError:
        size = None  # reported when it is scored
    if size is not None and size != result.size:
        (w1, h1), (w2, h2) = result.size, size
        raise DatasetError(f"{plan.system.name} makes {w1}x{h1} of {plan.inputs[name]}, but {truth} is {w2}x{h2}")
    with atomic_path(plan.targets[name]) as temporary:
        Image.fromarray(rgb_of(result)).save(temporary, format="PNG", compress_level=1)
    plan.records.add(plan.targets[name], plan.made_from[name])
