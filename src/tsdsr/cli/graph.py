"""``tsdsr graph``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tsdsr.cli.common import errors_reported
from tsdsr.wording import counted


def graph(
    folder: Annotated[Path, typer.Argument(help="Pipeline folder of a 'mini'.")],
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the graph that is there.")] = False,
) -> None:
    """Write the graph of a 'mini' for ONNX Runtime beside its weights.

    The graph refers to the weights and holds no copy of them. Make it again when the weights change.
    """
    with errors_reported():
        from tsdsr.runtimes.mini_graph import write_graph

        made = write_graph(folder, overwrite)
    typer.echo(f"{made.path}: {counted(made.operations, 'operation')}, {made.bytes / 1000:.0f} kB")
