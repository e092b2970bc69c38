"""The ``tsdsr`` command: parse arguments, call the library, print results.

Commands import what they need when they run, so that ``tsdsr --help`` starts fast.
"""

from __future__ import annotations

from typing import Annotated

import typer

from tsdsr.cli.bench import bench
from tsdsr.cli.data import data_app
from tsdsr.cli.evaluate import compare, evaluate
from tsdsr.cli.export import export
from tsdsr.cli.figures import figures
from tsdsr.cli.fold import fold
from tsdsr.cli.graph import graph
from tsdsr.cli.group import OneLineErrors
from tsdsr.cli.models import convert, info
from tsdsr.cli.push import push
from tsdsr.cli.serve import serve
from tsdsr.cli.study import study_app
from tsdsr.cli.train import train_app
from tsdsr.cli.upscale import upscale
from tsdsr.cli.video import video

app = typer.Typer(
    cls=OneLineErrors,
    context_settings={"help_option_names": ["-h", "--help"]},
    no_args_is_help=True,
    rich_markup_mode=None,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.command()(upscale)
app.command()(video)
app.command()(convert)
app.command()(export)
app.command()(fold)
app.command()(graph)
app.command()(info)
app.command()(push)
app.command()(evaluate)
app.command()(compare)
app.command()(bench)
app.command()(figures)
app.command()(serve)
app.add_typer(data_app, name="data")
app.add_typer(study_app, name="study")
app.add_typer(train_app, name="train")


def _version(show: bool) -> None:
    if show:
        from tsdsr import __version__

        typer.echo(__version__)
        raise typer.Exit


@app.callback()
def main(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Restore and enlarge photographs with a one-step diffusion model."""
