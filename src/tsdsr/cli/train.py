"""``tsdsr train``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tsdsr.cli.common import DtypeChoice, errors_reported

train_app = typer.Typer(help="Train models.", no_args_is_help=True)


@train_app.callback()
def train() -> None:
    """Train models."""


@train_app.command()
def student(
    photos: Annotated[Path, typer.Option(help="Folder of sharp photographs.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="Run folder; an interrupted run there is resumed.")],
    recipe: Annotated[str, typer.Option(help="Name of a recipe in tsdsr.recipes.")] = "mini_v0",
    device: Annotated[str, typer.Option(help="'auto', 'cpu', 'cuda' …")] = "auto",
    dtype: Annotated[DtypeChoice, typer.Option(help="Autocast precision.")] = DtypeChoice.auto,
    workers: Annotated[int, typer.Option(min=0, help="Data loading processes.")] = 0,
    until: Annotated[int | None, typer.Option(min=1, help="Stop after this many steps in all.")] = None,
) -> None:
    """Train a one-step student and store it as a pipeline folder."""
    with errors_reported():
        import torch

        from tsdsr.models.conditioning import FixedPrompt
        from tsdsr.models.zoo import MINI, default_conditioning
        from tsdsr.pipeline.convert import save_pipeline
        from tsdsr.pipeline.loading import choose_device, choose_dtype
        from tsdsr.pipeline.pipeline import OneStepSRPipeline
        from tsdsr.recipes import get_recipe
        from tsdsr.training.trainer import StudentTrainer

        where = choose_device(device)
        precision = choose_dtype(dtype.value, where)
        trainer = StudentTrainer(get_recipe(recipe), photos, output, str(where), precision, workers)
        trainer.run(until)
        prompt = FixedPrompt.from_conditioning(default_conditioning(MINI))
        target = output / f"pipeline-{trainer.step:08d}"
        save_pipeline(OneStepSRPipeline(trainer.student(), MINI.make_autoencoder(), prompt), target, torch.float16)
    typer.echo(f"{target}: ready for 'tsdsr upscale --model {target}'")
