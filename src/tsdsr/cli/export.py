"""``tsdsr export``."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

from tsdsr.cli.common import errors_reported
from tsdsr.errors import require_torch
from tsdsr.wording import counted


class TargetChoice(str, Enum):
    onnx = "onnx"
    openvino = "openvino"


class StoredChoice(str, Enum):
    fp32 = "fp32"
    fp16 = "fp16"


def export(
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder to create.")],
    to: Annotated[TargetChoice, typer.Option(help="Runtime to export for.")] = TargetChoice.onnx,
    model: Annotated[str, typer.Option(help="'mini', a pipeline folder or a hub ID.")] = "mini",
    dtype: Annotated[StoredChoice, typer.Option(help="Precision of the stored weights.")] = StoredChoice.fp32,
) -> None:
    """Export a model for ONNX Runtime or OpenVINO.

    The result has the encoder, denoiser and decoder, and takes images of any size.
    """
    with errors_reported():
        from tsdsr.files import require_new

        require_new(output)
        require_torch("exporting", to.value)
        from tsdsr.pipeline.diffusers_loading import load_diffusers_pipeline
        from tsdsr.runtimes.export import export_pipeline

        typer.echo(f"exporting {model} for {to.value}", err=True)
        pipe = load_diffusers_pipeline(model, "cpu", dtype.value)
        for graph in export_pipeline(pipe, output, to.value):
            constants = counted(graph.constants, "constant", thousands=",")
            typer.echo(f"{graph.name}: {counted(graph.nodes, 'operation')}, {constants}")
    typer.echo(f"{output}: ready for 'tsdsr upscale --model {output}'")
