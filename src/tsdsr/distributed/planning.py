"""Plan a run on an archive: what is to be restored, as parts of a table, and what is done already or cannot be done."""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from tsdsr.distributed.inputs import ArchiveInput, absolute, find_inputs, require_any
from tsdsr.distributed.plan_index import Candidate, PlanIndex
from tsdsr.distributed.plan_writer import PlanWriter
from tsdsr.distributed.records import settings_hash, status_row
from tsdsr.distributed.run_folder import RUNS, EarlierRun, RunFolder, earlier_runs, read_parts
from tsdsr.errors import InvalidInputError, MissingDependencyError
from tsdsr.files import require_writable_folder
from tsdsr.images.formats import FORMATS, image_format, require_codec
from tsdsr.pipeline.destinations import are_one_name, folded, names_a_file, with_format
from tsdsr.pipeline.jobs import not_replaced
from tsdsr.pipeline.made_from import BatchSettings
from tsdsr.pipeline.sources import OWN_RESULT, STANDARD_STREAM, TWICE
from tsdsr.remote_files import join_url, list_files, local_path

_T = TypeVar("_T")


@dataclass(frozen=True)
class ArchivePlan:
    """What a run has to do.

    Attributes:
        run (RunFolder): where its statuses go; the failures found here are in it.
        settings (mapping): format → hash of what a result in it depends on besides its input, for the statuses.
        parts (tuple of str): URLs of the parts of the plan; each row group of them is a batch.
        pending, skipped, failed (int): numbers of pictures: to restore (or to compare), done already, impossible.
        left_out (mapping): files without a job, by kind, see :class:`~tsdsr.images.listing.Listing`.
    """

    run: RunFolder
    settings: Mapping[str, str]
    parts: tuple[str, ...]
    pending: int
    skipped: int
    failed: int
    left_out: Mapping[str, int]


@dataclass(frozen=True)
class _Decision:
    """What becomes of an input: failed if there is an ``error``, skipped if it is ``finished``, pending otherwise."""

    error: str = ""
    finished: bool = False
    input_hash: str = ""
    replaces: bool = False


def plan_archive(
    inputs: Sequence[str],
    output: str,
    settings: BatchSettings,
    suffix: str | None = None,
    overwrite: bool = False,
    on_failure: Callable[[str], None] = lambda message: None,
    on_notice: Callable[[str], None] = lambda message: None,
    on_progress: Callable[[str, int], None] = lambda what, count: None,
) -> ArchivePlan:
    """Plan a run. Only listings, statuses and lists are read, and memory does not grow with the archive.

    A result is skipped if it was made with these settings from this input, and neither the input's stamp nor the
    result's size has changed. If only the stamp has, or is unknown, the content is compared (``input_hash``).

    Args:
        inputs (sequence of str): see :func:`~tsdsr.distributed.inputs.find_inputs`.
        output (str): folder of the results, at a URL or local.
        settings (BatchSettings): what results are made with.
        suffix (str | None): output format as a suffix such as ".png"; default: that of each input.
        overwrite (bool): replace what stands in the place of a result, whatever it is.
        on_failure (callable): called with a sentence for each picture that cannot be restored.
        on_notice (callable): called with a sentence about anything else.
        on_progress (callable): called with what is counted, such as "inputs" or "planned", and the number so far.

    Returns:
        ArchivePlan: the plan.

    Raises:
        InvalidInputError: an argument is empty or contradicts another, or no input exists.
        MissingDependencyError: results cannot be written in this format here, or a package for URLs is missing.
        FileReadError, FileWriteError: the storage cannot be listed, read or written.
    """
    place = _checked_output(output, suffix)
    require_any(inputs)
    formats = {name: settings.stored_as(name) for name in sorted(set(FORMATS.values()))}
    hashes = {name: settings_hash(value) if settings.model else "" for name, value in formats.items()}
    earlier = earlier_runs(place)
    run = RunFolder(place, {"format": 1, "output": place, "inputs": list(inputs), "formats": formats})
    judge = _Judge(place, hashes, overwrite, _differences(earlier, formats))
    left_out, counts = Counter[str](), Counter[str]()
    with tempfile.TemporaryDirectory(prefix="tsdsr-") as folder:
        writer = PlanWriter(run, Path(folder))
        with closing(PlanIndex(Path(folder), _folding(place))) as index:
            _add_earlier(index, earlier, place, on_notice, on_progress)
            index.add_there(_counted(_there(place), "files at the output", on_progress))
            found = find_inputs(inputs, place, left_out)
            index.add_inputs(_counted(_with_results(found, index, place, suffix, left_out), "inputs", on_progress))
            for candidate in _counted(index.candidates(), "planned", on_progress):
                if candidate.twin == candidate.input.url:
                    left_out[TWICE] += 1
                else:
                    counts[_enter(candidate.input, judge(candidate), place, run, writer, on_failure)] += 1
        writer.close()
    run.flush()
    pending, skipped, failed = (counts[status] for status in ("pending", "skipped", "failed"))
    left = dict(sorted(left_out.items()))
    return ArchivePlan(run, hashes, tuple(writer.parts), pending, skipped, failed, left)


def _enter(
    picture: ArchiveInput,
    decision: _Decision,
    output: str,
    run: RunFolder,
    writer: PlanWriter,
    on_failure: Callable[[str], None],
) -> str:
    """Put an input into the plan, or its failure into the statuses; return which."""
    result = join_url(output, picture.relative)
    if decision.error:
        on_failure(decision.error)
        run.add([status_row(picture.url, result, "failed", error=decision.error, stamp=picture.stamp)])
        return "failed"
    if decision.finished:
        return "skipped"
    writer.add(
        {
            "input": picture.url, "output": result, "bytes": picture.size, "stamp": picture.stamp,
            "input_hash": decision.input_hash, "replaces": decision.replaces,
        }
    )  # fmt: skip
    return "pending"


class _Judge:
    """Decides what becomes of each input."""

    def __init__(
        self,
        output: str,
        hashes: Mapping[str, str],
        overwrite: bool,
        differences: Callable[[str, str], list[str] | None],
    ) -> None:
        self.output, self.hashes, self.overwrite, self.differences = output, hashes, overwrite, differences
        self._writable: set[str] = set()

    def __call__(self, candidate: Candidate) -> _Decision:
        source, result = candidate.input.url, join_url(self.output, candidate.input.relative)
        if error := candidate.input.error or self._conflict(candidate, source, result):
            return _Decision(error)
        if candidate.there is None or self.overwrite:
            return _Decision(replaces=candidate.there is not None)
        wanted = self.hashes[image_format(result)]
        recorded = candidate.recorded
        if recorded is not None and recorded.size == candidate.there:
            if not wanted or recorded.settings != wanted:
                return _Decision(not_replaced(source, result, self.differences(recorded.settings, result)))
            stamp = candidate.input.stamp
            if recorded.same_input and stamp and stamp == recorded.stamp:
                return _Decision(finished=True)
            return _Decision(input_hash=recorded.input_hash, replaces=True)
        if candidate.planned is not None and wanted and candidate.planned == wanted:
            return _Decision()  # the driver of that run died before it recorded this result
        if candidate.planned:
            return _Decision(not_replaced(source, result, self.differences(candidate.planned, result)))
        return _Decision(not_replaced(source, result))

    def _conflict(self, candidate: Candidate, source: str, result: str) -> str:
        if candidate.over_input and candidate.there is not None:
            return f"{source}: the result would overwrite the input {result}; choose another output"
        if candidate.twin:
            return f"{source}: its result {result} is already that of {candidate.twin}; rename one"
        if (name := image_format(result)) not in self._writable:
            try:
                require_codec(source, name)
            except MissingDependencyError as error:
                return str(error)
            self._writable.add(name)
        return ""


def _checked_output(output: str, suffix: str | None) -> str:
    """Return the output folder as every machine should see it."""
    place = absolute(output, "output")
    if output == STANDARD_STREAM:
        raise InvalidInputError("-o -: the results of an archive need a folder")
    if suffix is not None and suffix not in FORMATS:
        raise InvalidInputError(f"unknown output format {suffix!r}; choose from {', '.join(FORMATS)}")
    path = local_path(output)
    if names_a_file(output, path or Path(output.partition("://")[2]), suffix):
        raise InvalidInputError(f"{output}: is the name of a file, but the results of an archive need a folder")
    if path is not None:
        require_writable_folder(place)
    if suffix is not None:
        require_codec(output, FORMATS[suffix])
    return place


def _folding(output: str) -> Callable[[str], str]:
    """Return a function that maps names which are one file at the output to one text."""
    path = local_path(output)
    if path is not None and are_one_name(path / "a", path / "A"):
        return lambda name: folded(Path(name))
    return lambda name: name


def _add_earlier(
    index: PlanIndex,
    earlier: Sequence[EarlierRun],
    output: str,
    on_notice: Callable[[str], None],
    on_progress: Callable[[str, int], None],
) -> None:
    """Read the statuses of all earlier runs, and the plans of those that did not end."""
    count = 0
    for run in earlier:
        # Results are named by their place below the folder, so that this can be moved or copied.
        prefix = join_url(str(run.settings.get("output", output)), "")
        for table in read_parts("status", run.statuses, on_notice):
            rows = [row for row in table.to_pylist() if row["status"] in ("done", "skipped") and row["settings"]]
            index.add_statuses((row["output"].removeprefix(prefix), row) for row in rows)
            on_progress("earlier results", count := count + table.num_rows)
        for table in read_parts("plan", () if run.finished else run.plan, on_notice):
            formats = {name: settings_hash(value) for name, value in run.settings.get("formats", {}).items()}
            index.add_planned(
                (row["output"].removeprefix(prefix), row["input"], formats.get(image_format(row["output"]), ""))
                for row in table.to_pylist()
                if not row["replaces"]
            )


def _there(output: str) -> Iterator[tuple[str, int]]:
    """Yield name and bytes of what is at the output."""
    for file in list_files(output):
        if not file.relative.startswith(f"{RUNS}/"):
            yield _printable(file.relative), file.size


def _with_results(
    found: Iterator[ArchiveInput], index: PlanIndex, output: str, suffix: str | None, left_out: Counter[str]
) -> Iterator[tuple[ArchiveInput, str | None]]:
    """Name the result of each input; leave out inputs that are results of an earlier run."""
    prefix = join_url(output, "")
    for each in found:
        own = each.url.removeprefix(prefix) if each.url.startswith(prefix) else None
        error = each.error
        if _printable(each.url) != each.url:
            error = f"{_printable(each.url)}: its name is not in UTF-8, which tables need; rename it"
        elif wrong := {"..", RUNS}.intersection(each.relative.split("/")):
            error = f"{each.url}: its place below the output, {each.relative}, contains {wrong.pop()!r}; give another"
        if error:
            yield ArchiveInput(_printable(each.url), _printable(each.relative), error=_printable(error)), None
        elif own is not None and index.is_result(own):
            left_out[OWN_RESULT] += 1
        else:
            place = with_format(Path(each.relative.lstrip("/")), suffix).as_posix()
            yield replace(each, relative=place), own


def _differences(
    earlier: Sequence[EarlierRun], formats: Mapping[str, Mapping[str, Any]]
) -> Callable[[str, str], list[str] | None]:
    """Return a function from the hash of earlier settings, and a result, to the settings in which they differ."""
    known = {settings_hash(value): value for run in earlier for value in run.settings.get("formats", {}).values()}

    def differences(old_hash: str, result: str) -> list[str] | None:
        old, new = known.get(old_hash), formats[image_format(result)]
        if old is None:
            return None
        return sorted(key for key in {*old, *new} if key not in old or key not in new or old[key] != new[key])

    return differences


def _printable(text: str) -> str:
    return text.encode("utf-8", "backslashreplace").decode()


def _counted(items: Iterable[_T], what: str, on_progress: Callable[[str, int], None]) -> Iterator[_T]:
    count = 0
    for count, item in enumerate(items, 1):
        if count % 1_000 == 0:
            on_progress(what, count)
        yield item
    on_progress(what, count)
