"""``tsdsr evaluate`` and ``tsdsr compare``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tsdsr.cli.common import DtypeChoice, errors_reported, require_folder
from tsdsr.cli.progress import ProgressBars
from tsdsr.errors import InvalidInputError

if TYPE_CHECKING:
    from PIL import Image

    from tsdsr.evaluation.compare import System
    from tsdsr.evaluation.published import PublishedRow
    from tsdsr.evaluation.results import Evaluation
    from tsdsr.evaluation.scoring import ScoringSettings

Gt = Annotated[Path | None, typer.Option(help="Folder of true images; not needed by niqe, musiq, maniqa, clipiqa.")]
Metrics = Annotated[
    str | None, typer.Option(help="Separated by commas: psnr,ssim,lpips,dists,fid,niqe,musiq,maniqa,clipiqa.")
]
Device = Annotated[str, typer.Option(help="'auto', 'cpu', 'cuda' …")]
Border = Annotated[int, typer.Option(min=0, help="Pixels cropped on every side before PSNR and SSIM.")]
Workers = Annotated[int, typer.Option(min=0, help="Scoring processes; they share the threads.")]
Suffixes = Annotated[
    list[str] | None, typer.Option("--suffix", help="Ending of file stems that does not count; repeatable.")
]
Published = Annotated[
    str | None, typer.Option("--published", "--compare", help="Print the paper's rows too: drealsr, realsr, div2k-val.")
]
Json = Annotated[Path | None, typer.Option(help="Store all figures here.")]
Html = Annotated[Path | None, typer.Option(help="Store a page to look at here: tables, bars, pictures side by side.")]
Markdown = Annotated[Path | None, typer.Option(help="Store the table as Markdown here.")]
Latex = Annotated[Path | None, typer.Option(help="Store the table as LaTeX (booktabs) here.")]
Csv = Annotated[Path | None, typer.Option(help="Store the table as CSV here, with all digits and intervals.")]


def evaluate(
    pred: Annotated[Path, typer.Option(help="Folder of restored images.")],
    gt: Gt = None,
    lr: Annotated[Path | None, typer.Option(help="Folder of the inputs, shown on the page.")] = None,
    name: Annotated[str | None, typer.Option(help="Label of the row; default the folder's name.")] = None,
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

    Files are matched by stem, ignoring common endings. Metrics with unavailable weights are listed with the reason.
    """
    with errors_reported():
        from tsdsr.evaluation.published import comparison
        from tsdsr.evaluation.scoring import evaluate as score

        rows = comparison(published) if published else ()
        settings = _settings(metrics, gt, crop_border, workers, device)
        systems = {name or pred.resolve().name: pred}
        with ProgressBars() as bars:
            found = score(
                systems,
                gt,
                settings,
                lr=lr,
                on_image=lambda done, total: bars.report("images", done, total),
                **_suffixes(suffix),
            )
        _show(found, rows, json, html, markdown=markdown, latex=latex, csv=csv)


def compare(
    systems: Annotated[
        list[str],
        typer.Argument(
            metavar="[NAME=]SYSTEM",
            help="'mini', 'bicubic', 'lanczos', a pipeline folder or hub id, weights that spandrel loads (.pth, "
            ".safetensors), or a folder of ready outputs.",
        ),
    ],
    lr: Annotated[Path, typer.Option(help="Folder of low-resolution images.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder of the outputs, one subfolder a system.")],
    gt: Gt = None,
    scale: Annotated[int, typer.Option(min=1, max=8, help="Enlargement.")] = 4,
    metrics: Metrics = None,
    published: Published = None,
    json: Json = None,
    markdown: Markdown = None,
    latex: Latex = None,
    csv: Csv = None,
    html: Html = None,
    runs: Annotated[int, typer.Option(min=0, help="Warm runs a time is the median of; 0 measures none.")] = 5,
    crop_border: Border = 0,
    suffix: Suffixes = None,
    workers: Workers = 0,
    device: Device = "auto",
    dtype: Annotated[DtypeChoice, typer.Option(help="Precision of pipelines.")] = DtypeChoice.auto,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Make outputs again that exist.")] = False,
) -> None:
    """Run several systems on the same images and compare quality, time, memory and size."""
    with errors_reported():
        from tsdsr.evaluation.compare import compare as run
        from tsdsr.evaluation.published import comparison

        rows = comparison(published) if published else ()
        settings = _settings(metrics, gt, crop_border, workers, device)
        for folder in (lr, gt):
            require_folder(folder)
        opened = [open_system(text, scale, settings.device, dtype.value) for text in systems]
        with ProgressBars() as bars:
            found = run(
                opened,
                lr,
                gt,
                output,
                settings,
                runs=runs,
                overwrite=overwrite,
                on_image=bars.report,
                **_suffixes(suffix),
            )
        _show(found, rows, json, html, markdown=markdown, latex=latex, csv=csv)


def open_system(text: str, scale: int, device: str, dtype: str) -> System:
    """Open a system given as ``[NAME=]SYSTEM``.

    Raises:
        InvalidInputError: an empty name or system.
        ModelError: the model does not exist or cannot be used.
    """
    from tsdsr.evaluation.compare import System
    from tsdsr.evaluation.peers import INTERPOLATIONS, PEER_SUFFIXES, interpolation, load_peer

    label, _, value = text.rpartition("=")
    if not value or text.startswith("="):
        raise InvalidInputError(f"{text!r}: give a system, or NAME=SYSTEM")
    path = Path(value)
    if value in INTERPOLATIONS:
        system = interpolation(value, scale)
    elif path.suffix.lower() in PEER_SUFFIXES:
        system = load_peer(path, scale, device)
    elif path.is_dir() and not (path / "model_index.json").exists():
        system = System(path.resolve().name, folder=path)
    else:
        system = _pipeline_system(value, scale, device, dtype)
    if label:
        import dataclasses

        system = dataclasses.replace(system, name=label)
    return system


def _pipeline_system(model: str, scale: int, device: str, dtype: str) -> System:
    """Open a one-step pipeline, with its network separate for timing."""
    from diffusers.utils.logging import disable_progress_bar

    from tsdsr.evaluation.compare import System
    from tsdsr.measuring import Stopwatch
    from tsdsr.pipeline.loading import load_pipeline

    disable_progress_bar()
    pipe = load_pipeline(model, device, dtype)

    def restore(image: Image.Image) -> Image.Image:
        result: Image.Image = pipe(image, scale).images[0]
        return result

    def network(image: Image.Image) -> float:
        watch = Stopwatch(pipe.device)
        with watch.listening():
            restore(image)
        return watch.seconds["denoise"]

    modules = (pipe.denoiser, pipe.vae)
    parameters = sum(p.numel() for module in modules for p in module.parameters())
    label = Path(model).name
    precision = str(pipe.dtype).removeprefix("torch.")
    return System(label, restore, None, network, parameters, str(pipe.device), precision)


def _settings(metrics: str | None, gt: Path | None, border: int, workers: int, device: str) -> ScoringSettings:
    """Build the scoring settings. Without ``metrics`` and true images, use all metrics that need no reference."""
    from tsdsr.devices import choose_device
    from tsdsr.evaluation.metrics import select_metrics
    from tsdsr.evaluation.scoring import ScoringSettings

    chosen = select_metrics(None if metrics is None else [m.strip().lower() for m in metrics.split(",") if m.strip()])
    if metrics is None and gt is None:
        chosen = tuple(spec for spec in chosen if spec.kind == "none")
    return ScoringSettings(chosen, str(choose_device(device)), border, workers)


def _suffixes(suffixes: list[str] | None) -> dict[str, Any]:
    return {"suffixes": tuple(suffixes)} if suffixes else {}


def _show(
    found: Evaluation, rows: Sequence[PublishedRow], json: Path | None, html: Path | None, **tables: Path | None
) -> None:
    """Print the table and store the requested formats; ``tables`` maps a format to its file."""
    from rich.console import Console

    from tsdsr.evaluation.tables import to_csv, to_latex, to_markdown, to_rich
    from tsdsr.files import atomic_path

    if json is not None:
        found.save(json)
    formats = {"markdown": to_markdown, "latex": to_latex, "csv": to_csv}
    for name, path in tables.items():
        if path is not None:
            with atomic_path(path) as temporary:
                temporary.write_text(formats[name](found, rows).rstrip("\n") + "\n", encoding="utf-8")
    if html is not None:
        from tsdsr.evaluation.html_report import write_report

        write_report(found, html, published=[(row.method, row.values) for row in rows])
    Console().print(to_rich(found, rows))
    for path in (json, html, *tables.values()):
        if path is not None:
            typer.echo(f"written to {path}")
