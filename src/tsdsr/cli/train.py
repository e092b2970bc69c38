"""``tsdsr train``."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tsdsr.cli.common import SHARDS_HELP, SOURCE_HELP, DtypeChoice, errors_reported
from tsdsr.errors import InvalidInputError, require_torch
from tsdsr.wording import counted

if TYPE_CHECKING:
    from tsdsr.training.config import RunConfig

train_app = typer.Typer(help="Train teachers and students.", no_args_is_help=True)


class TrackerChoice(str, Enum):
    tensorboard = "tensorboard"
    wandb = "wandb"
    trackio = "trackio"
    none = "none"


class ShardChoice(str, Enum):
    full = "full"
    offload = "offload"


Photos = Annotated[list[str], typer.Option("--photos", help=f"Photographs: {SOURCE_HELP} Repeatable.")]
Shards = Annotated[
    list[str], typer.Option("--shards", help=f"Photographs in WebDataset shards: {SHARDS_HELP} Repeatable.")
]
Output = Annotated[Path, typer.Option("-o", "--output", help="Folder of the run. An interrupted run in it is resumed.")]
Base = Annotated[Path | None, typer.Option(help="Diffusers folder of the base model. Not for mini.")]
Cache = Annotated[Path | None, typer.Option(help="Text embeddings made by 'tsdsr data cache'. Not for mini.")]
PromptFolder = Annotated[
    Path | None, typer.Option("--prompts", help="Folder of text files made by 'tsdsr data caption'.")
]
Overrides = Annotated[
    list[str], typer.Option("--set", help="Change a setting of the recipe, such as phases.0.steps=100. Repeatable.")
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Print settings and sizes without training.")]
Gpus = Annotated[
    int | None,
    typer.Option(
        min=1, help="With --dry-run: estimate memory and operations on each of this many GPUs. Takes a minute."
    ),
]
Device = Annotated[
    str, typer.Option(help="'auto', 'cpu' or 'cuda'. For several GPUs, start 'torchrun -m tsdsr train …'.")
]
Dtype = Annotated[DtypeChoice, typer.Option(help="Precision of autocast; 'auto' keeps that of an interrupted run.")]
Workers = Annotated[int, typer.Option(min=0, help="Number of processes that load data.")]
Until = Annotated[int | None, typer.Option(min=0, help="Stop when the run has made this many steps.")]
Shard = Annotated[
    ShardChoice | None,
    typer.Option(help="Split the networks over torchrun's processes: 'full', or 'offload' to also use host memory."),
]
Tracker = Annotated[TrackerChoice, typer.Option(help="Where to log figures besides log.jsonl.")]


@contextmanager
def _interruption_reported() -> Iterator[None]:
    """Exit with the status of a signal, 130 for Ctrl-C. Say how to continue if the run did not end after a step."""
    try:
        yield
    except KeyboardInterrupt as error:
        signum = getattr(error, "signum", signal.SIGINT)
        if not hasattr(error, "signum"):
            typer.echo("stopped at once; repeat the command to continue from the last checkpoint, if any", err=True)
        raise typer.Exit(128 + signum) from error


@train_app.command("list")
def list_recipes() -> None:
    """List the recipes."""
    with errors_reported():
        require_torch("the list of recipes", "train")
        from tsdsr.recipes import describe_recipes

    names = describe_recipes()
    width = max(map(len, names))
    for name, line in names.items():
        typer.echo(f"{name:<{width}}  {line}")


@train_app.command()
def student(
    output: Output,
    photos: Photos = [],  # noqa: B006  (typer needs the list as default)
    shards: Shards = [],  # noqa: B006
    recipe: Annotated[str, typer.Option(help="Recipe for a student, or FILE.py:FUNCTION.")] = "mini_student",
    teacher: Annotated[Path | None, typer.Option(help="Folder or LoRA file made by 'tsdsr train teacher'.")] = None,
    init: Annotated[
        Path | None, typer.Option(help="Pipeline folder or LoRA folder that the student starts from.")
    ] = None,
    base: Base = None,
    cache: Cache = None,
    prompts: PromptFolder = None,
    overrides: Overrides = [],  # noqa: B006
    device: Device = "auto",
    dtype: Dtype = DtypeChoice.auto,
    workers: Workers = 0,
    until: Until = None,
    tracker: Tracker = TrackerChoice.tensorboard,
    shard: Shard = None,
    dry_run: DryRun = False,
    gpus: Gpus = None,
) -> None:
    """Train a one-step student, and store it as a pipeline folder."""
    with errors_reported(), _interruption_reported():
        _check_dry_run(gpus, dry_run)
        _check_before_torch(photos, shards, output, dry_run)
        from tsdsr.recipes import student_recipe
        from tsdsr.training import apply_overrides, train_student

        config = apply_overrides(student_recipe(recipe), overrides)
        if dry_run:
            _describe(config, gpus, dtype)
            return
        target = train_student(
            config, photos, output, shards=shards, teacher=teacher, init=init, base=base, cache=cache, prompts=prompts,
            device=device, dtype=dtype.value, workers=workers, until=until, tracker=tracker.value,
            shard=shard.value if shard else None,
        )  # fmt: skip
        _say_ready(f"{target}: ready for 'tsdsr upscale --model {target}'")


@train_app.command()
def teacher(
    output: Output,
    photos: Photos = [],  # noqa: B006  (typer needs the list as default)
    shards: Shards = [],  # noqa: B006
    recipe: Annotated[str, typer.Option(help="Recipe for a teacher, or FILE.py:FUNCTION.")] = "mini_teacher",
    init: Annotated[Path | None, typer.Option(help="Folder or LoRA file of a teacher to continue from.")] = None,
    base: Base = None,
    cache: Cache = None,
    prompts: PromptFolder = None,
    overrides: Overrides = [],  # noqa: B006
    device: Device = "auto",
    dtype: Dtype = DtypeChoice.auto,
    workers: Workers = 0,
    until: Until = None,
    tracker: Tracker = TrackerChoice.tensorboard,
    shard: Shard = None,
    dry_run: DryRun = False,
    gpus: Gpus = None,
) -> None:
    """Train a teacher on sharp images with the diffusion loss. The result is a network for mini, a LoRA for others."""
    with errors_reported(), _interruption_reported():
        _check_dry_run(gpus, dry_run)
        _check_before_torch(photos, shards, output, dry_run)
        from tsdsr.recipes import teacher_recipe
        from tsdsr.training import apply_overrides, train_teacher

        config = apply_overrides(teacher_recipe(recipe), overrides)
        if dry_run:
            _describe(config, gpus, dtype)
            return
        target = train_teacher(
            config, photos, output, shards=shards, init=init, base=base, cache=cache, prompts=prompts,
            device=device, dtype=dtype.value, workers=workers, until=until, tracker=tracker.value,
            shard=shard.value if shard else None,
        )  # fmt: skip
        _say_ready(f"{target}: ready for 'tsdsr train student --teacher {target}'")


@train_app.command()
def average(
    first: Annotated[str, typer.Argument(help="'mini', a pipeline folder or a hub ID.")],
    second: Annotated[
        str, typer.Argument(help="Another model with the same networks, usually trained from the first.")
    ],
    output: Annotated[Path, typer.Option("-o", "--output", help="Pipeline folder to create.")],
    share: Annotated[float, typer.Option(min=0, max=1, help="Weight of the second model in the mean.")] = 0.5,
) -> None:
    """Average the weights of two students."""
    with errors_reported():
        from tsdsr.files import require_new

        require_new(output)
        require_torch("averaging", "torch")
        from tsdsr.pipeline.averaging import average_pipelines
        from tsdsr.pipeline.convert import save_pipeline

        save_pipeline(average_pipelines(first, second, share), output)
        typer.echo(f"{output}: ready for 'tsdsr upscale --model {output}'")


def _say_ready(text: str) -> None:
    """Say it once for a run of several processes: the first one has stored the result."""
    if os.environ.get("RANK", "0") == "0":
        typer.echo(text)


def _check_dry_run(gpus: int | None, dry_run: bool) -> None:
    if gpus is not None and not dry_run:
        raise InvalidInputError("--gpus describes a run without starting it: add --dry-run, or start torchrun")


def _check_before_torch(photos: list[str], shards: list[str], output: Path, dry_run: bool) -> None:
    """Check files and folders, then that torch is there. The recipes need it, and its import takes seconds.

    Raises:
        InvalidInputError, DatasetError: photographs or shards do not exist, or the run folder cannot be written.
        MissingDependencyError: torch is not installed.
    """
    from tsdsr.data.shard_index import check_shards
    from tsdsr.data.sources import check_source
    from tsdsr.files import require_writable_folder

    if not dry_run:
        if not (photos or shards):
            raise InvalidInputError("no photographs were given: name them with --photos or --shards")
        for source in photos:
            check_source(source)
        for archive in shards:
            check_shards(archive)
        require_writable_folder(output)
    require_torch("training", "train")


def _describe(config: RunConfig, gpus: int | None, dtype: DtypeChoice) -> None:
    """Print settings, samples and memory of a run, and what each GPU does if their number is given."""
    import dataclasses
    import json

    from tsdsr.training import estimate_memory
    from tsdsr.training.device_memory import estimate_devices

    memory = list(estimate_memory(config))
    if gpus is not None:
        memory += estimate_devices(config, gpus, "bf16" if dtype == DtypeChoice.auto else dtype.value)
    typer.echo(json.dumps(dataclasses.asdict(config), indent=1))
    samples = sum(phase.steps * phase.batch_size for phase in config.phases)
    typer.echo(f"{counted(config.total_steps, 'step', thousands=',')}, {counted(samples, 'sample', thousands=',')}")
    for line in memory:
        typer.echo(line)
