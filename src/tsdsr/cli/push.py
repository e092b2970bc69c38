"""``tsdsr push``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tsdsr.cli.common import errors_reported


def push(
    folder: Annotated[Path, typer.Argument(help="Pipeline folder or exported folder.")],
    name: Annotated[str, typer.Argument(metavar="OWNER/NAME", help="Name of the model on the hub.")],
    private: Annotated[bool, typer.Option("--private", help="If the repository is new, make it private.")] = False,
    revision: Annotated[str | None, typer.Option(metavar="BRANCH", help="Branch to commit to. Default: main.")] = None,
    message: Annotated[str | None, typer.Option(help="Commit message.")] = None,
) -> None:
    """Upload a model to the hub.

    Configuration, weights, graphs and model card are uploaded in one commit. Log in first with 'hf auth login', or set
    HF_TOKEN. Afterwards, load the model by its name: 'upscale --model OWNER/NAME'.
    """
    with errors_reported():
        from tsdsr.pipeline.hub import push_folder

        address = push_folder(folder, name, private=private or None, revision=revision, commit_message=message)
    typer.echo(f"uploaded: {address}")
