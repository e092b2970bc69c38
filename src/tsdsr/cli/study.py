"""``tsdsr study``."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

from tsdsr.cli.common import errors_reported, require_report_file
from tsdsr.cli.progress import ProgressBars
from tsdsr.errors import InvalidInputError
from tsdsr.wording import counted

study_app = typer.Typer(no_args_is_help=True, help="Ask people which restoration is best, blind.")


class SheetFormat(str, Enum):
    """Formats of sheets."""

    png = "png"
    webp = "webp"


Folder = Annotated[Path, typer.Argument(metavar="STUDY", help="Folder of the study.")]


@study_app.command()
def create(
    folder: Folder,
    systems: Annotated[list[str], typer.Argument(metavar="NAME=FOLDER", help="Restorations to compare.")],
    lr: Annotated[Path, typer.Option(help="Folder of low-resolution images.")],
    gt: Annotated[Path, typer.Option(help="Folder of ground-truth images; its subfolders are categories.")],
    title: Annotated[str, typer.Option(help="Heading of the page for voters.")] = "Which restoration is best?",
    categories: Annotated[Path | None, typer.Option(help="CSV or TSV file with two columns: image, category.")] = None,
    shown: Annotated[
        int | None, typer.Option(min=2, help="How many restorations a page shows. Default: all, up to 9.")
    ] = None,
    per_voter: Annotated[int | None, typer.Option(min=1, help="How many images each voter sees. Default: all.")] = None,
    suffix: Annotated[
        list[str] | None, typer.Option("--suffix", help="Ending to ignore in file names, such as _x4. Repeatable.")
    ] = None,
) -> None:
    """Create a study. Images are matched by name without suffix, and copied into its folder."""
    with errors_reported():
        from tsdsr.evaluation.pairing import DEFAULT_SUFFIXES
        from tsdsr.study.create import create_study

        named = _named_folders(systems)
        with ProgressBars() as bars:
            made = create_study(
                folder,
                lr,
                gt,
                named,
                title=title,
                categories=categories,
                shown=shown,
                per_voter=per_voter,
                suffixes=suffix or DEFAULT_SUFFIXES,
                on_image=lambda done, total: bars.report("pictures", done, total),
            )
    counts = (
        counted(len(made.images), "image"),
        counted(len(made.systems), "system"),
        counted(len(made.categories), "category", "categories"),
    )
    typer.echo(f"{', '.join(counts)} in {folder}")


@study_app.command()
def serve(
    folder: Folder,
    host: Annotated[str, typer.Option(help="Address to listen on; 0.0.0.0 means every network.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to listen on; 0 picks a free one.")] = 8000,
) -> None:
    """Serve the page for voters until interrupted. Votes survive a restart."""
    with errors_reported():
        from contextlib import suppress

        from tsdsr.study.server import serve as run

        with suppress(KeyboardInterrupt):
            run(folder, host, port, on_ready=lambda address: typer.echo(f"serving {address} (Ctrl+C ends)"))


@study_app.command()
def export(
    folder: Folder,
    csv: Annotated[Path | None, typer.Option(help="File for the votes, a row for each.")] = None,
    json: Annotated[Path | None, typer.Option(help="File for systems, images and votes.")] = None,
) -> None:
    """Write the votes to files. This also works while the study is being served."""
    with errors_reported():
        from tsdsr.files import write_text
        from tsdsr.study.definition import VOTES, Study
        from tsdsr.study.votes import read_votes, votes_csv, votes_json

        if csv is None and json is None:
            raise InvalidInputError("nothing to write; give --csv FILE or --json FILE")
        for option, given in (("--csv", csv), ("--json", json)):
            if given is not None:
                require_report_file(option, given)
        study, votes = Study.load(folder), read_votes(folder / VOTES)
        for path, write in ((csv, votes_csv), (json, votes_json)):
            if path is not None:
                write_text(path, write(study, votes))
                typer.echo(f"{counted(len(votes), 'vote')} written to {path}")


@study_app.command()
def report(
    folder: Folder,
    json: Annotated[Path | None, typer.Option(help="File for all figures.")] = None,
    markdown: Annotated[Path | None, typer.Option(help="File for the tables in Markdown.")] = None,
    figure: Annotated[Path | None, typer.Option(help="PNG file for a chart of the approval rates.")] = None,
) -> None:
    """Report approval rates by category and a Bradley-Terry ranking. Both have 95 % intervals."""
    with errors_reported():
        from rich.console import Console

        from tsdsr.files import require_writable_file, write_text
        from tsdsr.study.approval import study_report
        from tsdsr.study.definition import VOTES, Study
        from tsdsr.study.render import to_markdown, to_rich, write_figure
        from tsdsr.study.votes import read_votes

        for option, given in (("--json", json), ("--markdown", markdown)):
            if given is not None:
                require_report_file(option, given)
        if figure is not None:
            require_writable_file(figure)
        found = study_report(Study.load(folder), read_votes(folder / VOTES))
        if json is not None:
            found.save(json)
        if markdown is not None:
            write_text(markdown, to_markdown(found) + "\n")
        if figure is not None:
            write_figure(found, figure)
        Console().print(to_rich(found))
    for path in (json, markdown, figure):
        if path is not None:
            typer.echo(f"written to {path}")


@study_app.command()
def sheets(
    folder: Annotated[Path, typer.Argument(metavar="SHEETS", help="New folder for the sheets.")],
    systems: Annotated[list[str], typer.Argument(metavar="NAME=FOLDER", help="The two restorations to compare.")],
    lr: Annotated[Path, typer.Option(help="Folder of low-resolution images.")],
    key: Annotated[
        Path, typer.Option(help="New JSON file that says which restoration is which. Do not show it to voters.")
    ],
    gt: Annotated[Path | None, typer.Option(help="Folder of ground-truth images, to show as well.")] = None,
    count: Annotated[
        int | None, typer.Option(min=1, help="How many images to show, drawn at random. Default: all.")
    ] = None,
    window: Annotated[int, typer.Option(min=32, help="Side of the window shown of each image, in pixels.")] = 256,
    magnify: Annotated[
        int, typer.Option(min=1, max=16, help="Show each pixel as a square with an edge of this many pixels.")
    ] = 1,
    rows: Annotated[int, typer.Option(min=1, help="Number of rows on a sheet.")] = 4,
    both_orders: Annotated[
        bool, typer.Option("--both-orders", help="Show every image twice, each restoration once in each column.")
    ] = False,
    seed: Annotated[
        int | None, typer.Option(min=0, help="Seed of the draws; the same seed gives the same sheets. Default: random.")
    ] = None,
    image_format: Annotated[
        SheetFormat, typer.Option("--format", help="Format of the sheets. Both are lossless.")
    ] = SheetFormat.png,
    suffix: Annotated[
        list[str] | None, typer.Option("--suffix", help="Ending to ignore in file names, such as _x4. Repeatable.")
    ] = None,
) -> None:
    """Make pictures for blind votes without a server. Rows show the input, two restorations and the truth."""
    with errors_reported():
        from tsdsr.evaluation.pairing import DEFAULT_SUFFIXES
        from tsdsr.study.sheets import write_sheets

        require_report_file("--key", key)
        with ProgressBars() as bars:
            made = write_sheets(
                folder,
                key,
                _named_folders(systems),
                lr,
                gt,
                count=count,
                window=window,
                magnify=magnify,
                per_sheet=rows,
                both_orders=both_orders,
                seed=seed,
                image_format=image_format.value,
                suffixes=suffix or DEFAULT_SUFFIXES,
                on_image=lambda done, total: bars.report("rows", done, total),
            )
    number = len({row.sheet for row in made.rows})
    typer.echo(f"{counted(len(made.rows), 'row')} on {counted(number, 'sheet')} in {folder}; the key is {key}")


@study_app.command()
def tally(
    key: Annotated[Path, typer.Argument(metavar="KEY", help="Key that 'tsdsr study sheets' wrote.")],
    votes: Annotated[list[Path], typer.Argument(metavar="VOTES", help="A file for each voter: 1 or 2 for every row.")],
    json: Annotated[Path | None, typer.Option(help="File for all figures.")] = None,
    markdown: Annotated[Path | None, typer.Option(help="File for the table in Markdown.")] = None,
) -> None:
    """Count votes on sheets, with 95 % intervals."""
    with errors_reported():
        from rich.console import Console

        from tsdsr.files import write_text
        from tsdsr.study.sheet_key import SheetKey
        from tsdsr.study.sheet_votes import sheet_report, to_markdown, to_rich

        for option, given in (("--json", json), ("--markdown", markdown)):
            if given is not None:
                require_report_file(option, given)
                if given.resolve() in {path.resolve() for path in (key, *votes)}:
                    raise InvalidInputError(f"{option} {given}: is the key or a file of votes; choose another name")
        found = sheet_report(SheetKey.load(key), votes)
        if json is not None:
            found.save(json)
        if markdown is not None:
            write_text(markdown, to_markdown(found) + "\n")
        Console().print(to_rich(found))
    for path in (json, markdown):
        if path is not None:
            typer.echo(f"written to {path}")


def _named_folders(texts: list[str]) -> dict[str, Path]:
    named = [_named(text) for text in texts]
    if len(dict(named)) < len(named):
        raise InvalidInputError("two systems have the same name; give each its own with NAME=FOLDER")
    return dict(named)


def _named(text: str) -> tuple[str, Path]:
    name, equals, folder = text.partition("=")
    if not name or not equals or not folder:
        raise InvalidInputError(f"{text!r}: give NAME=FOLDER")
    return name, Path(folder)
