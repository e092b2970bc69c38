"""Settings of the web server."""

from __future__ import annotations

from dataclasses import dataclass, field
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated

from tsdsr.errors import InvalidInputError
from tsdsr.field_checks import Between, Count, Positive, check_fields

SHORTEST_TOKEN = 16
"""Characters of a token: shorter ones can be guessed."""

MOST_WORKERS = 16

Bytes = Annotated[int, Between(1)]


@dataclass(frozen=True)
class ServeSettings:
    """How the web server behaves.

    Attributes:
        host (str): address to listen on; ``127.0.0.1`` is this machine only, ``0.0.0.0`` all networks.
        port (int): port to listen on; 0 takes any that is free.
        token (str | None): what clients must present, at least :data:`SHORTEST_TOKEN` characters; None asks for none.
        allowed_hosts (tuple of str): names by which clients may address the server, besides this machine's own
            (``localhost``); without any, a server that listens to the network takes every name.
        model (str): name of the model, as ``/v1/models`` gives it.
        queue_size (int): pictures that wait; further ones are refused.
        max_upload_bytes (int): largest upload.
        max_pixels (int): pixels of the largest input.
        max_result_pixels (int): pixels of the largest result.
        max_disk_bytes (int): uploads and results on the disk together; the oldest finished ones make room.
        timeout (float): seconds that the restoration of one picture may take; for ``/v1/upscale``, with its wait.
        read_timeout (float): seconds that an upload may pause.
        upload_timeout (float): seconds that a whole upload may take.
        result_seconds (float): seconds that a result is kept.
        stop_seconds (float): seconds that the pictures in work have to finish once the server is told to stop.
        workers (int): pictures in work at the same time.
        folder (Path | None): folder for temporary files; None takes the system's.

    Raises:
        InvalidInputError: a value is out of range.
    """

    host: str = "127.0.0.1"
    port: Annotated[int, Between(0, 65535)] = 8787
    token: str | None = field(default=None, repr=False)
    allowed_hosts: tuple[str, ...] = ()
    model: str = "mini"
    queue_size: Count = 32
    max_upload_bytes: Bytes = 200_000_000
    max_pixels: Bytes = 50_000_000
    max_result_pixels: Bytes = 200_000_000
    max_disk_bytes: Bytes = 4_000_000_000
    timeout: Positive = 600.0
    read_timeout: Positive = 30.0
    upload_timeout: Positive = 600.0
    result_seconds: Positive = 3600.0
    stop_seconds: Positive = 30.0
    workers: Annotated[int, Between(1, MOST_WORKERS)] = 1
    folder: Path | None = None

    def __post_init__(self) -> None:
        check_fields(self)
        if self.token is not None and (len(self.token) < SHORTEST_TOKEN or not self.token.isascii()):
            raise InvalidInputError(
                f"the token must have at least {SHORTEST_TOKEN} ASCII characters; make one with "
                "python -c 'import secrets; print(secrets.token_urlsafe())'"
            )

    @property
    def is_local(self) -> bool:
        """Whether only programs on this machine can connect."""
        try:
            return ip_address(self.host).is_loopback
        except ValueError:
            return self.host == "localhost"
