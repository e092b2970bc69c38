"""``tsdsr graph``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tsdsr.cli.common import errors_reported
from tsdsr.wording import counted


def graph(
    folder: Annotated[Path, typer.Argument(help="Pipeline folder of a 'mini' model.")],
    int8: Annotated[
        Path | None,
        typer.Option(
            help="Also write the 8-bit graph of 'upscale --fast'. Ranges are measured on the pictures in this folder, "
            "a few of low quality with varied content.",
            metavar="PICTURES",
        ),
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace existing graphs.")] = False,
) -> None:
    """Write the ONNX Runtime graph of a 'mini' model.

    The graph lies next to the weights, and refers to them instead of copying them. Write it again when the
    weights change.
    """
    with errors_reported():
        from tsdsr.errors import InvalidInputError
        from tsdsr.images.listing import list_images
        from tsdsr.images.reading import read_rgb
        from tsdsr.runtimes.mini_graph import write_graph

        paths = [] if int8 is None else [int8 / path for path in list_images(int8).images]
        if int8 is not None and not paths:
            raise InvalidInputError(f"{int8}: contains no pictures; an 8-bit graph needs a few, to measure ranges")
        made = [write_graph(folder, overwrite)]
        if int8 is not None:
            from tsdsr.runtimes.mini_int8 import write_int8_graph

            made.append(write_int8_graph(folder, [read_rgb(path) for path in paths], overwrite))
    for one in made:
        typer.echo(f"{one.path}: {counted(one.operations, 'operation')}, {one.bytes / 1000:.0f} kB")
