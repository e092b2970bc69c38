"""``tsdsr fold``."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tsdsr.cli.common import DtypeChoice, errors_reported
from tsdsr.errors import require_torch
from tsdsr.wording import readable_size

if TYPE_CHECKING:
    from tsdsr.pipeline.diffusers_pipeline import OneStepSRPipeline


class QuantizeChoice(str, Enum):
    """Names of the quantisation modes."""

    int8 = "int8"
    int8_dynamic = "int8-dynamic"
    fp8 = "fp8"


def fold(
    model: Annotated[str, typer.Argument(help="'mini', a pipeline folder or a hub ID.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="Pipeline folder to create.")],
    dtype: Annotated[
        DtypeChoice, typer.Option(help="Precision of the stored weights; 'auto' keeps the model's own.")
    ] = DtypeChoice.auto,
) -> None:
    """Precompute what depends only on the fixed time and prompt.

    The model becomes smaller and faster; its images stay the same. A folded model cannot be trained further.
    """
    with errors_reported():
        from tsdsr.files import require_new

        require_new(output)
        require_torch("folding")
        import torch

        from tsdsr.devices import choose_dtype
        from tsdsr.models.network_folders import stored_dtype
        from tsdsr.pipeline.convert import save_pipeline
        from tsdsr.pipeline.diffusers_loading import check_pipeline_folder, read_pipeline
        from tsdsr.pipeline.model_files import resolve_model

        folder = resolve_model(model)
        check_pipeline_folder(folder)
        kept = dtype is DtypeChoice.auto
        precision = stored_dtype(folder / "denoiser") if kept else choose_dtype(dtype.value, torch.device("cpu"))
        pipe = read_pipeline(folder, precision)
        fold_and_report(pipe)
        save_pipeline(pipe, output, precision)
        typer.echo(f"folder: {readable_size(_bytes_below(folder))} → {readable_size(_bytes_below(output))}")
    typer.echo(f"{output}: ready for 'tsdsr upscale --model {output}'")


def fold_and_report(pipe: OneStepSRPipeline) -> None:
    """Fold in place and print the savings."""
    from tsdsr.optimize.fold import fold as fold_pipeline

    report = fold_pipeline(pipe)
    before, after = report.before, report.after
    typer.echo(
        f"denoiser: {before.values / 1e6:,.2f} M → {after.values / 1e6:,.2f} M values, "
        f"{readable_size(before.bytes)} → {readable_size(after.bytes)}"
    )


def _bytes_below(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
