"""Run the jobs of a batch with one model; one failure does not stop the others."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tsdsr.errors import FileWriteError, ImageError, ImageWriteError, TSDSRError
from tsdsr.files import StrPath, file_stamp
from tsdsr.images.encoded import EncodedImage
from tsdsr.images.picture import Picture
from tsdsr.images.reading import DEFAULT_MAX_PIXELS, read_picture
from tsdsr.images.writing import WriteOptions, write_picture
from tsdsr.out_of_memory import memory_reported
from tsdsr.pipeline.jobs import Job, add_name
from tsdsr.result_records import MadeFrom, ResultRecords

Restore = Callable[[Picture], Picture]


@dataclass(frozen=True)
class JobResult:
    """Outcome of a job.

    Attributes:
        job (Job): the job.
        status ("done" | "skipped" | "failed"): "skipped" if the result was there already.
        error (TSDSRError | None): why it failed.
        notices (tuple of str): what was converted or dropped.
    """

    job: Job
    status: Literal["done", "skipped", "failed"]
    error: TSDSRError | None = None
    notices: tuple[str, ...] = ()


def restore_file(
    source: StrPath | EncodedImage,
    destination: StrPath,
    restore: Restore,
    max_pixels: int | None = DEFAULT_MAX_PIXELS,
    options: WriteOptions | None = None,
) -> tuple[str, ...]:
    """Read a file, restore it and write the result. Metadata, transparency and bit depth are kept if the format allows.

    Args:
        source (str | PathLike | EncodedImage): image file, on disk or in memory.
        destination (str | PathLike): result; its suffix determines the format.
        restore (callable): maps a picture to the restored picture.
        max_pixels (int | None): see :func:`tsdsr.images.reading.read_picture`.
        options (WriteOptions | None): how the result is stored.

    Returns:
        tuple of str: what was converted or dropped.

    Raises:
        TSDSRError: the file cannot be read, restored or written; the message names it.
    """
    name = source.name if isinstance(source, EncodedImage) else os.fspath(source)
    try:
        with memory_reported("out of memory; free some, or choose a smaller scale"):
            picture = restore(read_picture(source, max_pixels))
            return (*picture.notices, *write_picture(picture, destination, options))
    except TSDSRError as error:
        add_name(error, name)
        raise
    except OSError as error:
        raise ImageError(f"{name}: {error.strerror or error}") from error


def run_jobs(
    jobs: Sequence[Job],
    restore: Restore,
    records: ResultRecords,
    made_from: Callable[[Job], MadeFrom],
    max_pixels: int | None = DEFAULT_MAX_PIXELS,
    options: WriteOptions | None = None,
) -> Iterator[JobResult]:
    """Run the jobs one by one. A failure is reported; the remaining jobs continue.

    Args:
        jobs (sequence of Job): see :func:`~tsdsr.pipeline.jobs.settle_jobs`.
        restore (callable): maps a picture to the restored picture.
        records (ResultRecords): where the results are recorded.
        made_from (callable): what the result of a job is made from.
        max_pixels (int | None): see :func:`tsdsr.images.reading.read_picture`.
        options (WriteOptions | None): how results are stored.

    Yields:
        JobResult: one per job, in order.
    """
    for job in jobs:
        if job.error is not None:
            yield JobResult(job, "failed", job.error)
        elif job.finished:
            yield JobResult(job, "skipped")
        else:
            try:
                if job.to_stdout:
                    notices = _restore_to_stdout(job, restore, max_pixels, options)
                else:
                    notices = restore_and_record(job, restore, records, made_from(job), max_pixels, options)
            except TSDSRError as error:
                yield JobResult(job, "failed", error)
            except OSError as error:
                yield JobResult(job, "failed", ImageError(f"{job.source}: cannot be read ({error.strerror or error})"))
            else:
                yield JobResult(job, "done", notices=notices)


def restore_and_record(
    job: Job,
    restore: Restore,
    records: ResultRecords,
    made_from: MadeFrom,
    max_pixels: int | None = DEFAULT_MAX_PIXELS,
    options: WriteOptions | None = None,
) -> tuple[str, ...]:
    """Restore a file and record the result, even if an interruption follows its writing.

    Args: see :func:`run_jobs`; ``made_from`` is that of this job.

    Returns:
        tuple of str: what was converted or dropped, and whether the record failed.

    Raises:
        TSDSRError: see :func:`restore_file`.
    """
    before, notices = file_stamp(job.destination), tuple[str, ...]()
    try:
        notices = restore_file(job.image, job.destination, restore, max_pixels, options)
    finally:
        if file_stamp(job.destination) != before:
            try:
                noted = _record(job.destination, records, made_from)
            except BaseException:  # a signal that arrives in between; a second line of the same record does no harm
                _record(job.destination, records, made_from)
                raise
            notices = (*notices, *noted)
    return notices


def _record(destination: Path, records: ResultRecords, made_from: MadeFrom) -> tuple[str, ...]:
    """Record a result that has been written; return a notice if that fails, because the result itself is sound."""
    if not destination.is_file():
        return ()  # it went into a pipe
    try:
        records.add(destination, made_from)
    except (FileWriteError, OSError) as error:
        return (f"the next run will not know what {destination} was made from ({error})",)
    return ()


def _restore_to_stdout(
    job: Job, restore: Restore, max_pixels: int | None, options: WriteOptions | None
) -> tuple[str, ...]:
    """Restore a file and write the result to the standard output once it is complete.

    Raises:
        TSDSRError: see :func:`restore_file`.
    """
    with tempfile.TemporaryDirectory(prefix="tsdsr-") as folder:
        path = Path(folder) / job.destination.name
        notices = restore_file(job.image, path, restore, max_pixels, options)
        try:
            with path.open("rb") as result:
                shutil.copyfileobj(result, sys.stdout.buffer)
            sys.stdout.buffer.flush()
        except OSError as error:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # Python flushes again at its end
            raise ImageWriteError(f"the standard output cannot be written ({error.strerror or error})") from error
    return notices
