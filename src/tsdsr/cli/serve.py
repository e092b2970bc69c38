"""``tsdsr serve``."""

from __future__ import annotations

import re
from typing import Annotated

import typer

from tsdsr.cli.common import DtypeChoice, errors_reported
from tsdsr.cli.upscale_options import EngineChoice
from tsdsr.errors import InvalidInputError

_UNITS = {"": 1, "B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9}


def serve(
    host: Annotated[str, typer.Option(help="Address to listen on; 0.0.0.0 means every network.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to listen on; 0 picks a free one.")] = 8787,
    model: Annotated[str, typer.Option(help="'mini', a pipeline folder, an exported folder, or a hub ID.")] = "mini",
    token: Annotated[
        str | None,
        typer.Option(
            envvar="TSDSR_TOKEN",
            show_envvar=True,
            help="Secret that clients must send. Safer in the environment variable.",
        ),
    ] = None,
    allow_host: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="Another name of this server, such as a proxy's. Repeatable."),
    ] = None,
    queue: Annotated[int, typer.Option(min=1, help="How many pictures may wait; more are refused.")] = 32,
    max_upload: Annotated[str, typer.Option(metavar="SIZE", help="Largest upload that is accepted.")] = "200MB",
    max_pixels: Annotated[int, typer.Option(min=1, help="Largest input that is accepted, in pixels.")] = 50_000_000,
    max_result_pixels: Annotated[
        int, typer.Option(min=1, help="Largest result that is made, in pixels.")
    ] = 200_000_000,
    max_disk: Annotated[str, typer.Option(metavar="SIZE", help="Disk space for uploads and results.")] = "4GB",
    workers: Annotated[int, typer.Option(min=1, max=16, help="How many pictures are restored at the same time.")] = 1,
    timeout: Annotated[float, typer.Option(help="Seconds that one picture may take.")] = 600,
    keep: Annotated[float, typer.Option(help="Seconds to keep a result.")] = 3600,
    stop: Annotated[float, typer.Option(help="Seconds to finish pictures in progress when the server stops.")] = 30,
    engine: Annotated[EngineChoice, typer.Option(help="Runtime for the model.")] = EngineChoice.auto,
    provider: Annotated[str, typer.Option(help="Hardware for ONNX Runtime; see 'tsdsr upscale --help'.")] = "auto",
    fast: Annotated[
        bool, typer.Option("--fast", help="Run mini in 8-bit arithmetic. Needs a processor with VNNI.")
    ] = False,
    device: Annotated[str, typer.Option(help="Device for PyTorch or OpenVINO; see 'tsdsr upscale --help'.")] = "auto",
    dtype: Annotated[DtypeChoice, typer.Option(help="Precision of the network.")] = DtypeChoice.auto,
    threads: Annotated[int | None, typer.Option(min=1, help="CPU threads. Default: one for each core.")] = None,
    open: Annotated[bool, typer.Option("--open", help="Open the page in a browser.")] = False,
) -> None:
    """Serve a web page and an HTTP interface until interrupted."""
    with errors_reported():
        from contextlib import suppress

        from tsdsr.pipeline.sr_pipeline import SRPipeline
        from tsdsr.serving.server import serve as run
        from tsdsr.serving.settings import ServeSettings

        settings = ServeSettings(
            host,
            port,
            token or None,
            tuple(allow_host or ()),
            model,
            queue,
            parse_size("--max-upload", max_upload),
            max_pixels,
            max_result_pixels,
            parse_size("--max-disk", max_disk),
            timeout,
            result_seconds=keep,
            stop_seconds=stop,
            workers=workers,
        )
        if settings.token is None and not settings.is_local:
            typer.echo(
                f"WARNING: everyone who reaches {host} can use this server: it has no token. "
                "Set TSDSR_TOKEN, or listen on 127.0.0.1.",
                err=True,
            )

        def load() -> SRPipeline:
            from tsdsr.runtimes.open_model import load_pipeline

            return load_pipeline(
                model, device, dtype.value, engine=engine.value, provider=provider, fast=fast, threads=threads,
                say=lambda text: typer.echo(text, err=True),
            )  # fmt: skip

        def ready(address: str) -> None:
            typer.echo(f"serving {address} (Ctrl+C ends)")
            if open:
                from webbrowser import open_new_tab

                open_new_tab(address)

        with suppress(KeyboardInterrupt):
            run(load, settings, ready)


def parse_size(option: str, text: str) -> int:
    """Parse a number of bytes, such as "200MB".

    Raises:
        InvalidInputError: ``text`` has another form.
    """
    found = re.fullmatch(r"(\d{1,15}(?:\.\d{1,6})?)\s*([kKMG]?B)?", text.strip(), re.ASCII)
    size = 0 if found is None else round(float(found[1]) * _UNITS[(found[2] or "").upper()])
    if size < 1:
        raise InvalidInputError(f"{option} takes a size, such as 200MB or 4GB, got {text[:40]!r}")
    return size
