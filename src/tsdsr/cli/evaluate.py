"""``tsdsr evaluate`` and ``tsdsr compare``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tsdsr.cli.common import DtypeChoice, errors_reported, require_folder, require_report_file
from tsdsr.cli.progress import ProgressBars
from tsdsr.cli.systems import open_system
from tsdsr.errors import InvalidInputError, require_torch

if TYPE_CHECKING:
    from tsdsr.evaluation.metrics import MetricSpec
    from tsdsr.evaluation.published import PublishedRow
    from tsdsr.evaluation.results import Evaluation
    from tsdsr.evaluation.scorer import ScoringSettings

Gt = Annotated[
    Path | None, typer.Option(help="Folder of ground-truth images. niqe, musiq, maniqa and clipiqa do not need it.")
]
Metrics = Annotated[
    str | None,
    typer.Option(
        help="Comma-separated choice of psnr,ssim,lpips,dists,fid,niqe,musiq,maniqa,clipiqa. Default: all possible."
    ),
]
Device = Annotated[str, typer.Option(help="'auto', 'cpu', 'cuda' …")]
Border = Annotated[int, typer.Option(min=0, help="Pixels to crop on every side before PSNR and SSIM.")]
Workers = Annotated[int, typer.Option(min=0, help="Number of scoring processes. They share the threads.")]
Suffixes = Annotated[
    list[str] | None, typer.Option("--suffix", help="Ending to ignore in file names, such as _x4. Repeatable.")
]
Published = Annotated[
    str | None,
    typer.Option("--published", "--compare", help="Also print the paper's rows for drealsr, realsr or div2k-val."),
]
Json = Annotated[Path | None, typer.Option(help="File for all figures, per image too.")]
Html = Annotated[Path | None, typer.Option(help="File for a page with tables, charts and pictures side by side.")]
Markdown = Annotated[Path | None, typer.Option(help="File for the table in Markdown.")]
Latex = Annotated[Path | None, typer.Option(help="File for the table in LaTeX (booktabs).")]
Csv = Annotated[Path | None, typer.Option(help="File for the table in CSV, with all digits and intervals.")]


def evaluate(
    pred: Annotated[Path, typer.Option(help="Folder of restored images.")],
    gt: Gt = None,
    lr: Annotated[Path | None, typer.Option(help="Folder of the inputs, to show on the page.")] = None,
    name: Annotated[str | None, typer.Option(help="Label of the row. Default: the folder's name.")] = None,
    metrics: Metrics = None,
    published: Published = None,
    json: Json = None,
    markdown: Markdown = None,
    latex: Latex = None,
    csv: Csv = None,
    html: Html = None,
    crop_border: Border = 0,
    suffix: Suffixes = None,
    workers: Workers = 0,
    device: Device = "auto",
) -> None:
    """Score a folder of restored images as the papers do.

    Files are matched by name without suffix, ignoring endings such as _x4, or by path where names repeat. A metric
    whose weights are unavailable is listed with the reason. An image that cannot be scored is named and left out; the
    exit status is then 1.
    """
    with errors_reported():
        from tsdsr.evaluation.published import comparison

        outputs = _outputs(json=json, markdown=markdown, latex=latex, csv=csv, html=html)
        rows = comparison(published) if published is not None else ()
        chosen = _chosen_metrics(metrics, gt)
        for folder in (pred, gt, lr):
            require_folder(folder)
        require_torch("scoring", "eval")
        from tsdsr.evaluation.scoring import evaluate as score

        settings = _settings(chosen, crop_border, workers, device)
        systems = {name or pred.resolve().name or "results": pred}
        with ProgressBars() as bars:
            found = score(
                systems,
                gt,
                settings,
                lr=lr,
                on_image=lambda done, total: bars.report("images", done, total),
                on_note=_note,
                **_suffixes(suffix),
            )
        _show(found, rows, outputs)


def compare(
    systems: Annotated[
        list[str],
        typer.Argument(
            metavar="[NAME=]SYSTEM[,OPTION...]",
            help="'mini', 'bicubic', 'lanczos', a pipeline folder or hub ID, weights that spandrel loads (a state dict "
            "in .pth, .safetensors), or a folder of ready outputs. Options of a pipeline: engine=onnx (or torch, "
            "openvino), fast.",
        ),
    ],
    lr: Annotated[Path, typer.Option(help="Folder of low-resolution images.")],
    output: Annotated[
        Path, typer.Option("-o", "--output", help="Folder for the outputs, one subfolder for each system.")
    ],
    gt: Gt = None,
    scale: Annotated[int, typer.Option(min=1, max=8, help="How many times larger the results are.")] = 4,
    metrics: Metrics = None,
    published: Published = None,
    json: Json = None,
    markdown: Markdown = None,
    latex: Latex = None,
    csv: Csv = None,
    html: Html = None,
    runs: Annotated[
        int, typer.Option(min=0, help="Number of timed runs after warm-up; the median is reported. 0 skips timing.")
    ] = 5,
    crop_border: Border = 0,
    suffix: Suffixes = None,
    workers: Workers = 0,
    device: Device = "auto",
    dtype: Annotated[DtypeChoice, typer.Option(help="Precision of the pipelines.")] = DtypeChoice.auto,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Redo all outputs.")] = False,
) -> None:
    """Compare the quality, time, memory and size of systems.

    Every system restores the same images. Outputs in the folder of -o are reused if they come from the same system,
    settings and input.
    """
    with errors_reported():
        from tsdsr.evaluation.published import comparison
        from tsdsr.files import require_writable_folder

        outputs = _outputs(json=json, markdown=markdown, latex=latex, csv=csv, html=html)
        require_writable_folder(output)
        rows = comparison(published) if published is not None else ()
        chosen = _chosen_metrics(metrics, gt)
        for folder in (lr, gt):
            require_folder(folder)
        require_torch("comparing", "eval")
        from tsdsr.evaluation.compare import compare as run

        settings = _settings(chosen, crop_border, workers, device)
        opened = [open_system(text, scale, settings.device, dtype.value) for text in systems]
        with ProgressBars() as bars:
            found = run(
                opened,
                lr,
                gt,
                output,
                settings,
                scale=scale,
                runs=runs,
                overwrite=overwrite,
                on_image=bars.report,
                on_note=_note,
                **_suffixes(suffix),
            )
        _show(found, rows, outputs)


def _chosen_metrics(metrics: str | None, gt: Path | None) -> tuple[MetricSpec, ...]:
    """Return the named metrics. Without names and true images, these are all that need no reference."""
    from tsdsr.evaluation.metrics import select_metrics

    chosen = select_metrics(None if metrics is None else [m for m in metrics.split(",") if m.strip()])
    if metrics is None and gt is None:
        return tuple(spec for spec in chosen if spec.kind == "none")
    return chosen


def _settings(chosen: tuple[MetricSpec, ...], border: int, workers: int, device: str) -> ScoringSettings:
    from tsdsr.devices import choose_device
    from tsdsr.evaluation.scorer import ScoringSettings

    return ScoringSettings(chosen, str(choose_device(device)), border, workers)


def _suffixes(suffixes: list[str] | None) -> dict[str, Any]:
    return {"suffixes": tuple(suffixes)} if suffixes else {}


def _note(text: str) -> None:
    typer.echo(f"note: {text}", err=True)


def _outputs(**paths: Path | None) -> dict[str, Path]:
    """Check that every requested file can be written, and return the files by format.

    Raises:
        InvalidInputError: a file cannot be written or has the name of a picture, or two formats have the same file.
    """
    outputs = {name: require_report_file(f"--{name}", path) for name, path in paths.items() if path is not None}
    seen: dict[Path, str] = {}
    for name, path in outputs.items():
        if (other := seen.setdefault(path.resolve(), name)) != name:
            raise InvalidInputError(f"{path}: is given for --{other} and for --{name}; give each its own file")
    return outputs


def _show(found: Evaluation, rows: Sequence[PublishedRow], outputs: Mapping[str, Path]) -> None:
    """Print the table and store the requested formats. Exit with status 1 if something could not be scored."""
    from rich.console import Console

    from tsdsr.evaluation.html_report import write_report
    from tsdsr.evaluation.tables import cautions, over_same_images, to_csv, to_latex, to_markdown, to_rich
    from tsdsr.files import write_text

    Console().print(to_rich(found, rows))
    tables = {"markdown": to_markdown, "latex": to_latex, "csv": to_csv}
    for name, path in outputs.items():
        if name in tables:
            write_text(path, tables[name](found, rows).rstrip("\n") + "\n")
        elif name == "json":
            found.save(path)
        else:
            write_report(
                found,
                path,
                published=[(row.method, row.values) for row in rows],
                ranked_together=over_same_images(found, rows),
                cautions=cautions(found, rows),
            )
        typer.echo(f"written to {path}")
    for problem in found.problems:
        typer.echo(f"error: {problem}", err=True)
    if found.problems:
        raise typer.Exit(1)
