"""Plan a batch before a model is loaded: the result of each input, and the reasons why some cannot be made."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from tsdsr.errors import ImageError, ImageWriteError, InvalidInputError, MissingDependencyError, TSDSRError
from tsdsr.files import StrPath, as_path, require_writable_file, require_writable_folder
from tsdsr.hashing import hash_bytes, hash_file
from tsdsr.images.encoded import EncodedImage
from tsdsr.images.formats import FORMATS, image_format, require_codec
from tsdsr.images.reading import read_size
from tsdsr.images.writing import check_size
from tsdsr.pipeline.destinations import are_one_name, folded, names_a_file, with_format
from tsdsr.pipeline.options import RestoreOptions
from tsdsr.pipeline.sources import STANDARD_STREAM, Source, find_sources
from tsdsr.result_records import MadeFrom, ResultRecords


@dataclass(frozen=True)
class Job:
    """A file to restore and the path of its result.

    Attributes:
        source (Path): input file.
        destination (Path): output file.
        error (TSDSRError | None): why the job cannot be done, if known beforehand.
        data (bytes | None): content of the input if it came through a pipe.
        to_stdout (bool): write the result to the standard output, in the format of ``destination``.
        finished (bool): the result is there, made from this input with these settings.
        pixels (int): pixels of the result, once :func:`check_targets` has found them.
    """

    source: Path
    destination: Path
    error: TSDSRError | None = None
    data: bytes | None = None
    to_stdout: bool = False
    finished: bool = False
    pixels: int = 0

    @property
    def image(self) -> Path | EncodedImage:
        """The input in the form that :mod:`tsdsr.images.reading` takes."""
        return self.source if self.data is None else EncodedImage(str(self.source), self.data)

    def input_hash(self) -> str:
        """Return the SHA-256 of the input.

        Raises:
            OSError: it cannot be read.
        """
        return hash_file(self.source) if self.data is None else hash_bytes(self.data)


@dataclass(frozen=True)
class Plan:
    """The jobs of a batch.

    Attributes:
        jobs (tuple of Job): in the order of the inputs.
        skipped (mapping): number of files in the inputs' folders that no job is for, by kind, see
            :class:`~tsdsr.pipeline.sources.Sources`.
    """

    jobs: tuple[Job, ...]
    skipped: Mapping[str, int]


def plan_jobs(
    inputs: StrPath | Sequence[StrPath],
    output: StrPath,
    suffix: str | None = None,
    is_own_result: Callable[[Path], bool] = lambda _: False,
) -> Plan:
    """Find the input files and choose the path of each result.

    The structure of a folder is kept below ``output``. ``output`` is a folder, unless the only input is a file and
    ``output`` has an image suffix; "-" is the standard output.

    Args:
        inputs (str | PathLike, or a sequence of them): files, folders, patterns and "-", see
            :func:`~tsdsr.pipeline.sources.find_sources`.
        output (str | PathLike): folder or file.
        suffix (str | None): output format as a suffix such as ".png"; default: that of each input.
        is_own_result (callable): whether a file is the result of an earlier run.

    Returns:
        Plan: a job has an error if its input cannot be read, if its result would overwrite an input or another
        result, or if its format cannot be written here.

    Raises:
        InvalidInputError: an argument is empty, the suffix is unknown or contradicts ``output``, ``output`` cannot be
            written or is one file for several inputs, or none of the inputs exists.
        MissingDependencyError: the format of all results cannot be written here.
    """
    given = [inputs] if isinstance(inputs, str | os.PathLike) else list(inputs)
    names = [STANDARD_STREAM if name == STANDARD_STREAM else os.fspath(as_path(name, "input")) for name in given]
    if suffix is not None and suffix not in FORMATS:
        raise InvalidInputError(f"unknown output format {suffix!r}; choose from {', '.join(FORMATS)}")
    target, to_stdout = as_path(output, "output"), os.fspath(output) in (STANDARD_STREAM, "/dev/stdout")
    if to_stdout and sys.__stdout__ is None:
        raise InvalidInputError("-o -: the standard output is closed; send it to a file or a pipe")
    if to_stdout and sys.stdout.isatty():
        raise InvalidInputError("-o -: the standard output is a terminal; send it to a file or a pipe")
    single = to_stdout or names_a_file(os.fspath(output), target, suffix)
    if wanted := suffix or (target.suffix.lower() if single and not to_stdout else None):
        require_codec(output, FORMATS[wanted])
    if not to_stdout:
        require_writable_file(target) if single else require_writable_folder(target)
    sources = find_sources(names, target, is_own_result)
    if not any(source.usable or os.path.lexists(source.path) for source in sources.found):
        raise InvalidInputError(_in_one_line(sources.found))
    if single and (len(sources.found) > 1 or os.path.isdir(names[0])):
        several = "several inputs need" if len(names) > 1 or not os.path.isdir(names[0]) else "a folder's results need"
        raise InvalidInputError(f"{output}: is the name of a file, but {several} a folder")
    if to_stdout:
        target = Path(f"stdout{suffix or '.png'}")
    jobs = [
        Job(source.path, target if single or source.error else target / with_format(source.relative, suffix),
            source.error, source.data, to_stdout)
        for source in sources.found
    ]  # fmt: skip
    return Plan(tuple(_conflicts_found(_without_results(jobs, is_own_result))), sources.skipped)


def settle_jobs(
    jobs: Iterable[Job], records: ResultRecords, made_from: Callable[[Job], MadeFrom], overwrite: bool = False
) -> list[Job]:
    """Decide what is to be done where a result is there already, and check that the others can be written.

    Args:
        jobs (iterable of Job): see :func:`plan_jobs`.
        records (ResultRecords): what earlier results were made from.
        made_from (callable): what the result of a job will be made from.
        overwrite (bool): replace existing results, whatever they were made from.

    Returns:
        list of Job: finished, if the result was made from the same; with an error, if it was made from anything else
        or cannot be written; otherwise as before.
    """
    return [job if job.error or job.to_stdout else _settled(job, records, made_from, overwrite) for job in jobs]


def _settled(job: Job, records: ResultRecords, made_from: Callable[[Job], MadeFrom], overwrite: bool) -> Job:
    try:
        if overwrite or not os.path.isfile(job.destination):  # a pipe is written to, whatever it is
            require_writable_file(job.destination)
            return job
        content = made_from(job)
        if records.state(job.destination, content) == "same":
            return replace(job, finished=True)
        return replace(job, error=ImageWriteError(_why_not_replaced(job, records, content)))
    except InvalidInputError as error:
        return replace(job, error=ImageWriteError(f"{job.source}: {error}"))
    except OSError as error:
        return replace(job, error=ImageError(f"{job.source}: cannot be read ({error.strerror or error})"))


def check_targets(jobs: Sequence[Job], options: RestoreOptions) -> list[Job]:
    """Return the jobs, with an error for each input that cannot be enlarged to its size.

    Only headers are read. Broken files are not reported here but by the job itself.

    Args:
        jobs (sequence of Job): see :func:`plan_jobs`.
        options (RestoreOptions): scale or target size.

    Raises:
        InvalidInputError: no input can be enlarged to this target size.
    """
    checked = [job if job.error or job.finished else _with_size(job, options) for job in jobs]
    wrong = [new.error for new, job in zip(checked, jobs, strict=True) if new.error is not None and job.error is None]
    if not any(job.error is None for job in checked) and wrong and isinstance(wrong[0], InvalidInputError):
        raise wrong[0]
    return checked


def pending(jobs: Sequence[Job]) -> list[Job]:
    """Return the jobs that need a model."""
    return [job for job in jobs if job.error is None and not job.finished]


def in_order_of_numbers(jobs: Iterable[Job]) -> list[Job]:
    """Return jobs sorted by the names of their inputs, numbers by their value: frame_9 comes before frame_10."""

    def key(job: Job) -> list[list[tuple[int, str]]]:
        parts = (re.split(r"(\d+)", part) for part in job.source.parts)
        return [[(int(text), "") if text.isdecimal() else (-1, text) for text in part] for part in parts]

    return sorted(jobs, key=key)


def add_name(error: TSDSRError, source: StrPath) -> None:
    """Prefix the message of an error with a file's name unless it contains it."""
    if os.fspath(source) not in str(error):
        error.args = (f"{source}: {error}", *error.args[1:])


def _in_one_line(sources: Sequence[Source]) -> str:
    """Return the errors of all sources as one message."""
    messages = [str(source.error) for source in sources]
    missing = ": no such file"
    if all(message.endswith(missing) for message in messages):
        names = [message.removesuffix(missing) for message in messages]
        whole = " ".join(names)
        quotes = f"; put a name with spaces in quotes: '{whole}'" if len(names) > 1 and os.path.exists(whole) else ""
        return ", ".join(names) + missing + quotes
    return "; ".join(messages)


def _without_results(jobs: list[Job], is_own_result: Callable[[Path], bool]) -> list[Job]:
    """Leave out inputs that are the results of other inputs in the same run."""
    made = {os.path.abspath(job.destination) for job in jobs if job.error is None and job.destination != job.source}
    return [job for job in jobs if os.path.abspath(job.source) not in made or not is_own_result(job.source)]


def _conflicts_found(jobs: Iterable[Job]) -> list[Job]:
    """Give an error to each job whose result would replace an input or another result, or cannot be encoded here."""
    jobs = list(jobs)
    sources = {_identity(job.source) for job in jobs if job.error is None and job.data is None}
    taken: dict[str, list[Job]] = {}
    checked = []
    for job in jobs:
        if job.error is None:
            twins = taken.setdefault(folded(job.destination), [])
            job = replace(job, error=_conflict(job, sources, twins))
            twins.append(job)
        checked.append(job)
    return checked


def _conflict(job: Job, sources: set[object], twins: list[Job]) -> TSDSRError | None:
    source, destination = job.source, job.destination
    if os.path.exists(destination) and _identity(destination) in sources:
        return ImageWriteError(f"{source}: the result would overwrite the input {destination}; choose another output")
    for twin in twins:
        if twin.destination == destination:
            return ImageWriteError(f"{source}: its result {destination} is already that of {twin.source}; rename one")
        if are_one_name(twin.destination, destination):
            return ImageWriteError(
                f"{source}: its result {destination} and {twin.destination}, that of {twin.source}, are one file on "
                f"this file system; rename one"
            )
    try:
        require_codec(source, image_format(destination))  # the format is the input's, unless plan_jobs checked it
    except MissingDependencyError as error:
        return error
    return None


def _identity(path: Path) -> object:
    return Source(path, Path()).identity


def _why_not_replaced(job: Job, records: ResultRecords, made_from: MadeFrom) -> str:
    """Say what stands in the place of a result."""
    if not records.is_result(job.destination):
        return not_replaced(str(job.source), str(job.destination))
    return not_replaced(str(job.source), str(job.destination), records.differences(job.destination, made_from))


def not_replaced(source: str, destination: str, differences: Sequence[str] | None = None) -> str:
    """Say why what stands in the place of a result is not replaced.

    Args:
        source, destination (str): input and result.
        differences (sequence of str | None): in what the result there differs from what would be made, see
            :meth:`~tsdsr.result_records.ResultRecords.differences`; None if nothing tells.
    """
    remedy = "--overwrite replaces it, or choose another -o"
    if differences is None:
        return f"{source}: {destination} is there already; {remedy}"
    named = ", ".join("fast or quantize" if name == "quantize" else name for name in differences)
    what = "from another picture" if "input" in differences else f"with other settings ({named})"
    return f"{source}: {destination} was made {what}; {remedy}"


def _with_size(job: Job, options: RestoreOptions) -> Job:
    """Return the job with the pixels of its result, or with the error of one that is too large or too small."""
    try:
        return replace(job, pixels=check_target(job.image, job.destination, options))
    except (InvalidInputError, ImageWriteError) as error:
        add_name(error, job.source)
        return replace(job, error=error)
    except (TSDSRError, OSError):
        return job  # reported by the job


def check_target(image: Path | EncodedImage, destination: StrPath, options: RestoreOptions) -> int:
    """Check from a picture's header that its result can be made and stored; return the result's number of pixels.

    Raises:
        InvalidInputError, ImageWriteError: it cannot be enlarged to this size, or its format cannot store it.
        TSDSRError, OSError: the picture cannot be read.
    """
    width, height = read_size(image)
    height, width = options.size(height, width)
    check_size(destination, width, height)
    return height * width
