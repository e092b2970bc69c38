"""``tsdsr figures``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tsdsr.cli import train
from tsdsr.cli.common import SHARDS_HELP, SOURCE_HELP, errors_reported
from tsdsr.errors import require_torch


def figures(
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder for the figures.")],
    run: Annotated[Path, typer.Option(help="Folder of a student's training run.")],
    photos: Annotated[
        list[str] | None,
        typer.Option("--photos", help=f"The run's photographs, if they have moved: {SOURCE_HELP} Repeatable."),
    ] = None,
    shards: Annotated[
        list[str] | None,
        typer.Option("--shards", help=f"The run's shards, if they have moved: {SHARDS_HELP} Repeatable."),
    ] = None,
    teacher: Annotated[Path | None, typer.Option(help="The run's teacher, if it has moved.")] = None,
    init: Annotated[
        Path | None, typer.Option(help="The model that the run's student started from, if it has moved.")
    ] = None,
    base: Annotated[Path | None, typer.Option(help="The base model, if it has moved.")] = None,
    cache: Annotated[Path | None, typer.Option(help="The text embeddings, if they have moved.")] = None,
    prompts: Annotated[Path | None, typer.Option(help="The photographs' text files, if they have moved.")] = None,
    images: Annotated[
        int | None, typer.Option(min=1, help="Number of held-out photographs to measure on. Default: all.")
    ] = None,
    device: train.Device = "auto",
) -> None:
    """Reproduce figures 3 and 5 of the paper for a training run.

    They are stored as PNG and CSV. Figure 3 is the cosine between the teacher's direction and the true one, figure 5
    the gap between the teacher and the fake network. Settings and files come from the run's checkpoint.
    """
    with errors_reported():
        require_torch("measuring", "eval")
        from tsdsr.training import measure_figures

        paths = measure_figures(
            run, output, photos=photos, shards=shards or (), teacher=teacher, init=init, base=base,
            cache=cache, prompts=prompts, images=images, device=device,
        )  # fmt: skip
        for path in paths:
            typer.echo(f"written to {path}")
