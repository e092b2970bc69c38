"""``tsdsr figures``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tsdsr.cli import train
from tsdsr.cli.common import DtypeChoice, errors_reported
from tsdsr.errors import ConfigError


def figures(
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder of the figures.")],
    run: Annotated[Path, typer.Option(help="Folder of a student's training run.")],
    photos: train.Photos,
    recipe: Annotated[str, typer.Option(help="The run's recipe.")] = "mini_student",
    teacher: Annotated[Path | None, typer.Option(help="The run's teacher: folder or LoRA file.")] = None,
    init: Annotated[Path | None, typer.Option(help="Where the run's student started.")] = None,
    base: train.Base = None,
    cache: train.Cache = None,
    prompts: train.PromptFolder = None,
    overrides: train.Overrides = [],  # noqa: B006  (typer needs the default itself)
    images: Annotated[int | None, typer.Option(min=1, help="Held-out photographs to measure on; default all.")] = None,
    device: train.Device = "auto",
    dtype: train.Dtype = DtypeChoice.auto,
) -> None:
    """Figures 3 and 5 of the paper for a run, as PNG and CSV: give what the run was started with.

    Figure 3: cosine between the teacher's direction and the true one. Figure 5: gap between teacher and fake network.
    """
    with errors_reported():
        from tsdsr.models.zoo import get_spec
        from tsdsr.recipes import student_recipe
        from tsdsr.training.build import RunFiles, load_parts
        from tsdsr.training.diagnostics import FIGURES, measure, write_figure
        from tsdsr.training.networks import build_networks
        from tsdsr.training.overrides import apply_overrides
        from tsdsr.training.student import StudentTrainer

        if not list(run.glob("checkpoint-*.pt")):
            raise ConfigError(f"{run}: holds no checkpoint; the fake network of a run without steps is its teacher")
        config = apply_overrides(student_recipe(recipe), overrides)
        files = RunFiles(base, teacher, init, cache)
        common = train._common(config, files, photos, prompts, run, device, dtype, 0, train.TrackerChoice.none)
        networks = build_networks(
            load_parts(config, files),
            get_spec(config.networks.model),
            config.networks,
            config.seed,
            scores=config.needs_scores,
        )
        trainer = StudentTrainer(config, networks, **common, perceptual=lambda x_hat, x_hq: x_hat.sum() * 0)
        rows = measure(trainer, images=images)
        for name in FIGURES:
            for path in write_figure(name, rows, output):
                typer.echo(f"written to {path}")
        trainer.close()
