"""Many files through one pipeline: what goes where, one failure at a time."""

from __future__ import annotations

import glob
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from tsdsr.devices import is_out_of_memory
from tsdsr.errors import ImageReadError, ImageWriteError, InvalidInputError, OutOfMemoryError, TSDSRError
from tsdsr.images.picture import Picture, Pixels
from tsdsr.images.reading import DEFAULT_MAX_PIXELS, FORMATS, read_picture
from tsdsr.images.transparency import enlarge_alpha, fill_transparent
from tsdsr.images.writing import WriteOptions, write_picture

Restore = Callable[[Picture], Picture]


@dataclass(frozen=True)
class Job:
    """One file to restore.

    Attributes:
        source (Path): input file.
        destination (Path): output file.
        error (TSDSRError | None): why the job cannot be done, where that is known beforehand.
    """

    source: Path
    destination: Path
    error: TSDSRError | None = None


@dataclass(frozen=True)
class JobResult:
    """What became of a job.

    Attributes:
        job (Job): the job.
        status ("done" | "skipped" | "failed"): "skipped" when the destination existed already.
        error (TSDSRError | None): why it failed.
        notices (tuple of str): what was converted or left out on the way.
    """

    job: Job
    status: Literal["done", "skipped", "failed"]
    error: TSDSRError | None = None
    notices: tuple[str, ...] = ()


def plan_jobs(inputs: Sequence[str], output: Path, suffix: str | None = None) -> list[Job]:
    """Find the input files and decide where each result goes.

    A folder stands for all images below it, and its structure is kept below ``output``. A pattern such as ``*.png`` is
    expanded. ``output`` is a folder, unless the only input is a file and ``output`` has an image suffix.

    Args:
        inputs (sequence of str): files, folders and patterns.
        output (Path): folder or file.
        suffix (str | None): output format as a suffix such as ".png"; default each input's own.

    Returns:
        list of Job: in a stable order. Inputs that do not exist and results that would overwrite an input or each other
        are jobs with an error.

    Raises:
        InvalidInputError: unknown suffix, or no image at all.
    """
    if suffix is not None and suffix not in FORMATS:
        raise InvalidInputError(f"unknown output format {suffix!r}; choose from {', '.join(FORMATS)}")
    pairs = [pair for name in inputs for pair in _expand(name)]
    if not pairs:
        raise InvalidInputError(f"no images found in {', '.join(inputs)}; known suffixes: {', '.join(FORMATS)}")
    if len(pairs) == 1 and output.suffix.lower() in FORMATS and not output.is_dir() and Path(inputs[0]).is_file():
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


def run_jobs(
    jobs: Sequence[Job],
    restore: Restore,
    overwrite: bool = False,
    max_pixels: int | None = DEFAULT_MAX_PIXELS,
    options: WriteOptions | None = None,
) -> Iterator[JobResult]:
    """Do the jobs one by one; a failure is reported and the rest goes on.

    Args:
        jobs (sequence of Job): see :func:`plan_jobs`.
        restore (callable): picture in, picture out.
        overwrite (bool): whether existing results are made again.
        max_pixels (int | None): see :func:`tsdsr.images.reading.read_picture`.
        options (WriteOptions | None): how results are stored.

    Yields:
        JobResult: one a job, in order.
    """
    for job in jobs:
        if job.error is not None:
            yield JobResult(job, "failed", job.error)
        elif job.destination.exists() and not overwrite:
            yield JobResult(job, "skipped")
        else:
            try:
                picture = restore(read_picture(job.source, max_pixels))
                notices = (*picture.notices, *write_picture(picture, job.destination, options))
            except TSDSRError as error:
                yield JobResult(job, "failed", _naming(job.source, error))
            except (MemoryError, RuntimeError) as error:  # outside the tiles, which shrink by themselves
                if not is_out_of_memory(error):
                    raise
                failure = OutOfMemoryError("out of memory; free some, or choose a smaller scale")
                yield JobResult(job, "failed", _naming(job.source, failure))
            else:
                yield JobResult(job, "done", notices=notices)


def _naming(source: Path, error: TSDSRError) -> TSDSRError:
    """The error with the file's name in its message."""
    if str(source) in str(error):
        return error
    error.args = (f"{source}: {error}", *error.args[1:])
    return error


def _expand(name: str) -> Iterator[tuple[Path, Path]]:
    """(source, path below the output folder) of every image that an input stands for."""
    path = Path(name)
    if path.is_dir():
        for source in sorted(p for p in path.rglob("*") if p.suffix.lower() in FORMATS and p.is_file()):
            yield source, source.relative_to(path)
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
    return None


Enlarge = Callable[[Pixels], Pixels]


def restore_picture(picture: Picture, enlarge: Enlarge) -> Picture:
    """Restore and enlarge a picture; the model sees colours only.

    Where there is transparency, the visible colours are carried on below it first, so that no colour that nobody sees
    gets into an edge; alpha is enlarged by itself. Metadata stays the input's.

    Args:
        picture (Picture): what to enlarge.
        enlarge (callable): pixels (h, w, C) to pixels (H, W, C) of the same dtype and number of channels, such as a
            pipeline's ``upscale_pixels``.
    """
    pixels, alpha = picture.pixels, picture.alpha
    if alpha is None:
        return replace(picture, pixels=enlarge(pixels))
    transparent = int(alpha.min()) < picture.full
    pixels = enlarge(fill_transparent(pixels, alpha) if transparent else pixels)
    return replace(picture, pixels=pixels, alpha=enlarge_alpha(alpha, pixels.shape[:2]))
