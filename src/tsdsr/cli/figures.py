"""``tsdsr figures``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tsdsr.cli import train
from tsdsr.cli.common import SHARDS_HELP, SOURCE_HELP, errors_reported
from tsdsr.errors import require_torch


def figures(
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder of the figures.")],
    run: Annotated[Path, typer.Option(help="Folder of a student's training run.")],
    photos: Annotated[
        list[str] | None, typer.Option("--photos", help=f"The run's photographs, if moved: {SOURCE_HELP} Repeatable.")
    ] = None,
    shards: Annotated[
        list[str] | None, typer.Option("--shards", help=f"The run's shards, if moved: {SHARDS_HELP} Repeatable.")
    ] = None,
    teacher: Annotated[Path | None, typer.Option(help="The run's teacher, if moved.")] = None,
    init: Annotated[Path | None, typer.Option(help="Where the run's student started, if moved.")] = None,
    base: Annotated[Path | None, typer.Option(help="The base model, if moved.")] = None,
    cache: Annotated[Path | None, typer.Option(help="Text embeddings, if moved.")] = None,
    prompts: Annotated[Path | None, typer.Option(help="Text files of the photographs, if moved.")] = None,
    images: Annotated[int | None, typer.Option(min=1, help="Held-out photographs to measure on; default all.")] = None,
    device: train.Device = "auto",
) -> None:
    """Measure figures 3 and 5 of the paper for a run, as PNG and CSV.

    Settings and files come from the run's checkpoint.

    Figure 3: cosine between the teacher's direction and the true one. Figure 5: gap between teacher and fake network.
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
