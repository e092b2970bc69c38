"""``tsdsr push``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tsdsr.cli.common import errors_reported


def push(
    folder: Annotated[Path, typer.Argument(help="Pipeline folder, or exported folder.")],
    name: Annotated[str, typer.Argument(metavar="OWNER/NAME", help="Where to: the model's name on the hub.")],
    private: Annotated[bool, typer.Option("--private", help="Make a new repository private.")] = False,
    revision: Annotated[str | None, typer.Option(metavar="BRANCH", help="Branch to commit to; default: main.")] = None,
    message: Annotated[str | None, typer.Option(help="What changed.")] = None,
) -> None:
    """Upload a model to the hub.

    Configuration, weights, graphs and model card go up in one commit. Log in with 'hf auth login', or set HF_TOKEN. The
    model is then loaded by its name: 'upscale --model OWNER/NAME'.
    """
    with errors_reported():
        from tsdsr.pipeline.hub import push_folder

        address = push_folder(folder, name, private=private or None, revision=revision, commit_message=message)
    typer.echo(f"uploaded: {address}")
