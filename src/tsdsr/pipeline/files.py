"""Restore many files with one pipeline: plan the outputs, run the jobs, report each failure."""

from __future__ import annotations

import glob
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from tsdsr.errors import (
    ImageReadError,
    ImageWriteError,
    InvalidInputError,
    MissingDependencyError,
    TSDSRError,
)
from tsdsr.files import StrPath
from tsdsr.images.listing import list_images
from tsdsr.images.picture import Picture, Pixels
from tsdsr.images.reading import DEFAULT_MAX_PIXELS, FORMATS, image_format, read_picture, read_size, require_codec
from tsdsr.images.transparency import enlarge_alpha, fill_transparent
from tsdsr.images.writing import WriteOptions, write_picture
from tsdsr.out_of_memory import memory_reported
from tsdsr.pipeline.options import RestoreOptions

Restore = Callable[[Picture], Picture]


@dataclass(frozen=True)
class Job:
    """A file to restore and the path of its result.

    Attributes:
        source (Path): input file.
        destination (Path): output file.
        error (TSDSRError | None): why the job cannot be done, if known beforehand.
    """

    source: Path
    destination: Path
    error: TSDSRError | None = None


@dataclass(frozen=True)
class JobResult:
    """Outcome of a job.

    Attributes:
        job (Job): the job.
        status ("done" | "skipped" | "failed"): "skipped" if the destination already existed.
        error (TSDSRError | None): why it failed.
        notices (tuple of str): what was converted or dropped.
    """

    job: Job
    status: Literal["done", "skipped", "failed"]
    error: TSDSRError | None = None
    notices: tuple[str, ...] = ()


def plan_jobs(inputs: StrPath | Sequence[StrPath], output: StrPath, suffix: str | None = None) -> list[Job]:
    """Find the input files and choose the path of each result.

    A folder includes all images below it; its structure is kept below ``output``. Patterns such as ``*.png`` are
    expanded. ``output`` is a folder, unless the only input is a file and ``output`` has an image suffix.

    Args:
        inputs (str | PathLike, or a sequence of them): files, folders and patterns.
        output (str | PathLike): folder or file.
        suffix (str | None): output format as a suffix such as ".png"; default: that of each input.

    Returns:
        list of Job: in a stable order. A job has an error if its input does not exist, if its result would
        overwrite an input or another result, or if its format cannot be written here.

    Raises:
        InvalidInputError: unknown suffix, no image, or none of the inputs exists.
    """
    if suffix is not None and suffix not in FORMATS:
        raise InvalidInputError(f"unknown output format {suffix!r}; choose from {', '.join(FORMATS)}")
    names = [os.fspath(name) for name in ([inputs] if isinstance(inputs, str | os.PathLike) else inputs)]
    output, pairs = Path(output), [pair for name in names for pair in _expand(name)]
    if not pairs:
        raise InvalidInputError(f"no images found in {', '.join(names)}; known suffixes: {', '.join(FORMATS)}")
    if not any(source.exists() for source, _ in pairs):
        raise InvalidInputError(f"{', '.join(str(source) for source, _ in pairs)}: no such file")
    if len(pairs) == 1 and output.suffix.lower() in FORMATS and not output.is_dir() and Path(names[0]).is_file():
        destinations = [output]
    else:
        destinations = [output / _with_format(relative, suffix) for _, relative in pairs]
    sources = {source.resolve() for source, _ in pairs if source.exists()}
    taken: dict[Path, Path] = {}
    jobs = []
    for (source, _), destination in zip(pairs, destinations, strict=True):
        jobs.append(Job(source, destination, _conflict(source, destination, sources, taken)))
        taken.setdefault(destination, source)
    return jobs


def check_targets(jobs: Sequence[Job], options: RestoreOptions) -> list[Job]:
    """Return the jobs, with an error for each input that cannot be enlarged to the target size.

    Only headers are read. Broken files are not reported here but by the job itself.

    Args:
        jobs (sequence of Job): see :func:`plan_jobs`.
        options (RestoreOptions): without a ``target_size`` there is nothing to check.

    Raises:
        InvalidInputError: no input can be enlarged to this size.
    """
    if options.target_size is None:
        return list(jobs)
    checked = [job if job.error else replace(job, error=_target_error(job.source, options)) for job in jobs]
    wrong = [new.error for new, job in zip(checked, jobs, strict=True) if new.error is not None and job.error is None]
    if wrong and not pending(checked, overwrite=True):
        raise wrong[0]
    return checked


def _target_error(source: Path, options: RestoreOptions) -> InvalidInputError | None:
    try:
        width, height = read_size(source)
        options.size(height, width)
    except InvalidInputError as error:
        _add_name(error, source)
        return error
    except TSDSRError:
        return None
    return None


def pending(jobs: Sequence[Job], overwrite: bool = False) -> list[Job]:
    """Return the jobs that need a model: without an error, and without an existing result unless ``overwrite``."""
    return [job for job in jobs if job.error is None and (overwrite or not job.destination.exists())]


def restore_file(
    source: StrPath,
    destination: StrPath,
    restore: Restore,
    max_pixels: int | None = DEFAULT_MAX_PIXELS,
    options: WriteOptions | None = None,
) -> tuple[str, ...]:
    """Read a file, restore it and write the result. Metadata, transparency and bit depth are kept if the format allows.

    Args:
        source (str | PathLike): image file.
        destination (str | PathLike): result; its suffix determines the format.
        restore (callable): maps a picture to the restored picture.
        max_pixels (int | None): see :func:`tsdsr.images.reading.read_picture`.
        options (WriteOptions | None): how the result is stored.

    Returns:
        tuple of str: what was converted or dropped.

    Raises:
        TSDSRError: the file cannot be read, restored or written; the message names it.
    """
    source, destination = Path(source), Path(destination)
    try:
        with memory_reported("out of memory; free some, or choose a smaller scale"):
            picture = restore(read_picture(source, max_pixels))
            return (*picture.notices, *write_picture(picture, destination, options))
    except TSDSRError as error:
        _add_name(error, source)
        raise


def run_jobs(
    jobs: Sequence[Job],
    restore: Restore,
    overwrite: bool = False,
    max_pixels: int | None = DEFAULT_MAX_PIXELS,
    options: WriteOptions | None = None,
) -> Iterator[JobResult]:
    """Run the jobs one by one. A failure is reported; the remaining jobs continue.

    Args:
        jobs (sequence of Job): see :func:`plan_jobs`.
        restore (callable): maps a picture to the restored picture.
        overwrite (bool): whether to replace existing results.
        max_pixels (int | None): see :func:`tsdsr.images.reading.read_picture`.
        options (WriteOptions | None): how results are stored.

    Yields:
        JobResult: one per job, in order.
    """
    for job in jobs:
        if job.error is not None:
            yield JobResult(job, "failed", job.error)
        elif not pending([job], overwrite):
            yield JobResult(job, "skipped")
        else:
            try:
                notices = restore_file(job.source, job.destination, restore, max_pixels, options)
            except TSDSRError as error:
                yield JobResult(job, "failed", error)
            else:
                yield JobResult(job, "done", notices=notices)


def _add_name(error: TSDSRError, source: Path) -> None:
    """Prefix the message with the file's name unless it contains it."""
    if str(source) not in str(error):
        error.args = (f"{source}: {error}", *error.args[1:])


def _expand(name: str) -> Iterator[tuple[Path, Path]]:
    """Yield (source, path below the output folder) for every image of an input."""
    path = Path(name)
    if path.is_dir():
        for relative in list_images(path).images:
            yield path / relative, relative
    elif not path.exists() and any(c in name for c in "*?["):
        for match in sorted(glob.glob(name, recursive=True)):
            if Path(match).is_file() and Path(match).suffix.lower() in FORMATS:
                yield Path(match), Path(Path(match).name)
    else:
        yield path, Path(path.name)


def _with_format(relative: Path, suffix: str | None) -> Path:
    if suffix is not None:
        return relative.with_suffix(suffix)
    return relative if relative.suffix.lower() in FORMATS else relative.with_suffix(".png")


def _conflict(source: Path, destination: Path, sources: set[Path], taken: dict[Path, Path]) -> TSDSRError | None:
    if not source.exists():
        return ImageReadError(f"{source}: no such file")
    if destination.resolve() in sources:
        return ImageWriteError(f"{source}: the result would overwrite the input {destination}; choose another output")
    if destination in taken:
        return ImageWriteError(
            f"{source}: its result {destination} is already that of {taken[destination]}; rename one"
        )
    try:
        require_codec(destination, image_format(destination))
    except MissingDependencyError as error:
        return error
    return None


Enlarge = Callable[[Pixels], Pixels]


Visible = Callable[[int, int], tuple[slice, slice]]


def restore_picture(picture: Picture, enlarge: Enlarge, visible: Visible | None = None) -> Picture:
    """Restore and enlarge a picture. The model sees only the colour channels.

    Visible colours are first extended into transparent areas, so that invisible colours do not bleed into edges. Alpha
    is enlarged separately. Metadata is kept.

    Args:
        picture (Picture): the picture to enlarge.
        enlarge (callable): maps pixels (h, w, C) to pixels (H, W, C) of the same dtype and number of channels, such as
            a pipeline's ``upscale_pixels``.
        visible (callable | None): maps (h, w) to the rows and columns of the input that ``enlarge`` keeps, see
            :meth:`~tsdsr.pipeline.options.RestoreOptions.visible`; None means all.

    Raises:
        ImageReadError: the picture has high dynamic range.
    """
    picture.check_range()
    pixels, alpha = picture.pixels, picture.alpha
    if alpha is None:
        return replace(picture, pixels=enlarge(pixels))
    transparent = int(alpha.min()) < picture.max_value
    pixels = enlarge(fill_transparent(pixels, alpha) if transparent else pixels)
    alpha = alpha if visible is None else alpha[visible(*alpha.shape[:2])]
    return replace(picture, pixels=pixels, alpha=enlarge_alpha(alpha, pixels.shape[:2]))
