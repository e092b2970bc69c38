"""``tsdsr upscale --on ray``: the same command on the machines of a cluster."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import typer

from tsdsr.cli.progress import ProgressBars
from tsdsr.errors import InvalidInputError, TSDSRError

if TYPE_CHECKING:
    from tsdsr.distributed.archive import ArchiveSummary
    from tsdsr.distributed.cluster import ActorPool
    from tsdsr.pipeline.made_from import BatchSettings
    from tsdsr.runtimes.open_restorer import ModelSource


def check_cluster_options(
    on: str | None, steady: float, actors: str | None, cpus: float | None, gpus: float | None
) -> None:
    """Check that options go together with ``--on``, or without it.

    Raises:
        InvalidInputError: they do not.
        MissingDependencyError: the extra ``ray`` is not installed.
    """
    own = {"--actors": actors, "--actor-cpus": cpus, "--actor-gpus": gpus}
    if on is None:
        for option in (name for name, value in own.items() if value is not None):
            raise InvalidInputError(f"{option} needs --on ray")
        return
    if not re.fullmatch(r"ray(=.+)?", on):
        raise InvalidInputError(f"--on takes 'ray', or 'ray=' and the address of a cluster, got {on[:40]!r}")
    if steady:
        raise InvalidInputError("--steady needs frames in order, which --on ray does not keep; leave out one of them")
    from tsdsr.distributed.cluster import require_ray

    require_ray()


def parse_pool(actors: str | None, cpus: float | None, gpus: float | None) -> ActorPool:
    """Parse ``MIN:MAX`` or one number, and what an actor takes.

    Raises:
        InvalidInputError: it has another form.
    """
    from tsdsr.distributed.cluster import ActorPool

    least, most = 1, None
    if actors is not None:
        numbers = re.fullmatch(r"(\d{1,6})(?::(\d{1,6}))?", actors, re.ASCII)
        if numbers is None:
            raise InvalidInputError(f"--actors takes a number, or MIN:MAX, got {actors[:40]!r}")
        least, most = int(numbers[1]), int(numbers[2] or numbers[1])
    return ActorPool(least, most, 1.0 if cpus is None else cpus, gpus or 0.0)


def upscale_on_ray(
    on: str,
    inputs: list[str],
    output: str,
    settings: BatchSettings,
    source: ModelSource,
    pool: ActorPool,
    suffix: str | None,
    overwrite: bool,
    max_pixels: int,
    bars: ProgressBars,
) -> None:
    """Restore an archive, print what the plain command prints, and exit with its status.

    Raises:
        TSDSRError: see :func:`~tsdsr.distributed.archive.upscale_archive`.
        Exit: with 1 if a picture failed.
    """
    from tsdsr.distributed.archive import ArchiveListener, upscale_archive

    class Printed(ArchiveListener):
        def note(self, text: str) -> None:
            typer.echo(f"note: {text}", err=True)

        def failure(self, text: str) -> None:
            typer.echo(f"failed: {text}", err=True)

        def progress(self, what: str, done: int, total: int) -> None:
            bars.report(what, done, total or done + 1)

    try:
        summary = upscale_archive(
            inputs, output, settings, source, address=on.partition("=")[2] or None, pool=pool, suffix=suffix,
            overwrite=overwrite, max_pixels=max_pixels, listener=Printed(),
        )  # fmt: skip
    except BaseException as error:
        if hasattr(error, "summary") and (error.summary.counts["done"] or not isinstance(error, TSDSRError)):
            _say_summary(error.summary, output, ended=False)
        raise
    _say_summary(summary, output, ended=True)
    if summary.failed:
        raise typer.Exit(1)


def _say_summary(summary: ArchiveSummary, output: str, ended: bool) -> None:
    counts = summary.counts
    rest = "" if ended else f", {summary.left} left"
    typer.echo(
        f"{counts['done']} upscaled, {counts['skipped']} skipped (already there), {summary.failed} failed{rest} in "
        f"{summary.seconds:.1f} s"
    )
    if counts["done"]:
        typer.echo(f"written to {output}")
    if summary.failed or not ended:
        typer.echo(f"status of each file: {summary.run}")
