"""``tsdsr upscale``."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import typer

from tsdsr.cli import upscale_options as given
from tsdsr.cli.archive import check_cluster_options, parse_pool, upscale_on_ray
from tsdsr.cli.common import DtypeChoice, errors_reported
from tsdsr.cli.progress import ProgressBars
from tsdsr.cli.upscale_options import (
    ColorFixChoice,
    EngineChoice,
    FitChoice,
    IccChoice,
    PresetChoice,
    SubsamplingChoice,
    check_arguments,
    check_engine,
    parse_format,
    restore_options,
)

if TYPE_CHECKING:
    from tsdsr.images.picture import Picture
    from tsdsr.pipeline.batch import Restore
    from tsdsr.pipeline.frame_folders import Frames
    from tsdsr.pipeline.jobs import Job
    from tsdsr.pipeline.made_from import BatchSettings
    from tsdsr.result_records import MadeFrom


def upscale(
    context: typer.Context,
    inputs: given.Inputs,
    output: given.Output,
    model: given.Model = "mini",
    scale: given.Scale = 4.0,
    target: given.Target = None,
    fit: given.Fit = FitChoice.contain,
    color_fix: given.ColorFixOption = ColorFixChoice.wavelet,
    detail: given.Detail = 1.0,
    steady: given.Steady = 0.0,
    tile: given.TileOption = "auto",
    tile_batch: given.TileBatch = 1,
    engine: given.EngineOption = EngineChoice.auto,
    provider: given.Provider = "auto",
    fast: given.Fast = False,
    device: given.Device = "auto",
    dtype: given.Dtype = DtypeChoice.auto,
    compile: given.Compile = False,
    quantize: given.Quantize = None,
    seed: given.Seed = None,
    format: given.Format = None,
    quality: given.Quality = None,
    subsampling: given.Subsampling = SubsamplingChoice.full,
    lossless: given.Lossless = False,
    compression: given.Compression = 4,
    icc: given.Icc = IccChoice.keep,
    overwrite: given.Overwrite = False,
    max_pixels: given.MaxPixels = 100_000_000,
    preset: given.Preset = PresetChoice.default,
    on: given.On = None,
    actors: given.Actors = None,
    actor_cpus: given.ActorCpus = None,
    actor_gpus: given.ActorGpus = None,
) -> None:
    """Restore and enlarge images.

    A result that was already made from the same picture with the same settings is skipped. A file that fails is
    reported and the others continue; the exit status is then 1.
    """
    started, counts = time.perf_counter(), Counter[str]()
    jobs: list[Job] = []
    restore: Restore = _unneeded
    try:
        with errors_reported(), ProgressBars() as bars:
            from tsdsr.images.writing import WriteOptions
            from tsdsr.pipeline.frame_folders import Frames
            from tsdsr.pipeline.made_from import BatchSettings
            from tsdsr.pipeline.picture_restorer import check_model
            from tsdsr.runtimes.open_restorer import FAST, ModelSource, open_restorer

            options = restore_options(context, scale, target, fit, color_fix, detail, tile, tile_batch)
            check_cluster_options(on, steady, actors, actor_cpus, actor_gpus)
            check_engine(engine, provider, fast, compile, quantize, preset)
            check_arguments(fit, preset, options, seed, steady)
            write = WriteOptions(quality, subsampling.value, lossless, compression)
            settings = BatchSettings(
                None, options, write, dtype.value, seed, icc.value, engine.value,
                FAST if fast else None if quantize is None else quantize.value, preset.value, steady,
            )  # fmt: skip
            source, suffix = ModelSource(model, provider, device, compile), parse_format(format)
            if on is not None:
                pool = parse_pool(actors, actor_cpus, actor_gpus)
                upscale_on_ray(on, inputs, output, settings, source, pool, suffix, overwrite, max_pixels, bars)
                return
            batch = _Batch(inputs, output, suffix, model, settings, overwrite)
            jobs = batch.jobs
            if batch.pending:
                check_model(batch.model, options, seed, engine.value, preset is PresetChoice.upstream)
                batch.frames = Frames(steady, options, icc.value, max_pixels) if steady else None
                restore = open_restorer(
                    replace(source, model=batch.model), settings,
                    pixels=sum(job.pixels for job in batch.pending), say=lambda text: typer.echo(text, err=True),
                    on_tile=lambda done, total: bars.report("tiles", done, total),
                    steady=None if batch.frames is None else batch.frames.steady,
                )  # fmt: skip
            batch.run(restore, max_pixels, counts, bars)
    except (KeyboardInterrupt, SystemExit):  # Ctrl-C, or another signal that ends the command
        if on is None:
            _say_summary(jobs, output, counts, time.perf_counter() - started, interrupted=True)
        raise
    _say_summary(jobs, output, counts, time.perf_counter() - started)
    if counts["failed"]:
        raise typer.Exit(1)


class _Batch:
    """The jobs of a command, their model, and the records of their results."""

    def __init__(
        self,
        inputs: list[str],
        output: str,
        suffix: str | None,
        model: str,
        settings: BatchSettings,
        overwrite: bool,
    ) -> None:
        from tsdsr.images.listing import describe_skipped
        from tsdsr.pipeline.jobs import check_targets, in_order_of_numbers, pending, plan_jobs, settle_jobs
        from tsdsr.pipeline.made_from import in_sequence, is_restored
        from tsdsr.pipeline.model_files import hash_of_model, local_folder, resolve_model
        from tsdsr.result_records import ResultRecords

        self.records = ResultRecords()
        plan = plan_jobs(inputs, output, suffix, lambda path: is_restored(path, self.records))
        if plan.skipped:
            typer.echo(f"note: left out: {describe_skipped(plan.skipped)}", err=True)
        # One on the hub is looked up once, so that all of the command is about one revision.
        self.model = str(resolve_model(model)) if local_folder(model) is None else model
        self.settings = replace(settings, model=hash_of_model(self.model))
        self.frames: Frames | None = None
        self.made_from: Callable[[Job], MadeFrom] = self.settings.made_from
        jobs = list(plan.jobs)
        if settings.steady:
            jobs = in_order_of_numbers(jobs)
            self.made_from = in_sequence(jobs, self.settings.made_from)
        jobs = settle_jobs(jobs, self.records, self.made_from, overwrite)
        self.jobs = check_targets(jobs, settings.restore)
        self.pending = pending(self.jobs)

    def run(self, restore: Restore, max_pixels: int, counts: Counter[str], bars: ProgressBars) -> None:
        """Run the jobs, count their outcomes by status and report failures."""
        from tsdsr.pipeline.batch import run_jobs

        bars.report("images", 0, len(self.jobs))
        started = time.perf_counter()
        results = run_jobs(self.jobs, restore, self.records, self.made_from, max_pixels, self.settings.write)
        for number, result in enumerate(results, 1):
            for notice in result.notices:
                typer.echo(f"note: {result.job.source}: {notice}", err=True)
            counts[result.status] += 1
            if result.error is not None:
                typer.echo(f"failed: {result.error}", err=True)
            if self.frames is not None:
                self.frames.after(result, self.jobs[number] if number < len(self.jobs) else None)
            rate = _rate(counts["done"], time.perf_counter() - started)
            bars.report("images", counts.total(), len(self.jobs), rate)


def _say_summary(
    jobs: Sequence[Job], output: str, counts: Counter[str], seconds: float, interrupted: bool = False
) -> None:
    """Print what was done. On the standard output, unless that is where the result goes."""
    to_stdout = any(job.to_stdout for job in jobs)
    done, skipped, failed = counts["done"], counts["skipped"], counts["failed"]
    rest = f", {len(jobs) - counts.total()} left" if interrupted else ""
    text = f"{done} upscaled, {skipped} skipped (already there), {failed} failed{rest} in {seconds:.1f} s"
    typer.echo(text, err=to_stdout)
    if done and not to_stdout:
        typer.echo(f"written to {jobs[0].destination if len(jobs) == 1 else output}")


def _unneeded(picture: Picture) -> Picture:
    """Stand in for the model if every job is already done or has failed."""
    raise AssertionError("no job is left that needs a model")


def _rate(finished: int, seconds: float) -> str:
    """Format the speed in the most readable unit."""
    if not finished or seconds <= 0:
        return ""
    per_second = finished / seconds
    return f"{per_second:.1f} images/s" if per_second >= 1 else f"{1 / per_second:.1f} s/image"
