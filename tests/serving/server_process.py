"""A server in a process of its own, around a pipeline that repeats pixels: ``python -m``, or :func:`serving`."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

from tests.child_processes import started
from tests.signals import as_in_a_terminal

ROOT = Path(__file__).resolve().parents[2]


class ServerProcess:
    """A running server.

    Attributes:
        process (Popen): its process.
        port (int): where it listens.
        http (Client): sends requests to it.
    """

    def __init__(self, process: subprocess.Popen[str]) -> None:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line.startswith("serving http://127.0.0.1:"), line
        self.process, self.port = process, int(line.partition("1:")[2].partition("/")[0])
        self.http = httpx.Client(base_url=f"http://127.0.0.1:{self.port}", timeout=20)

    def connect(self) -> socket.socket:
        """Open a connection for bytes that no HTTP client would send."""
        return socket.create_connection(("127.0.0.1", self.port), timeout=20)

    def end(self, number: int = signal.SIGTERM) -> tuple[int, str]:
        """Send a signal; return the exit status and what was said."""
        self.process.send_signal(number)
        return self.wait()

    def wait(self) -> tuple[int, str]:
        """Wait for the end of the process."""
        errors = self.process.communicate(timeout=30)[1]
        return self.process.returncode, errors


@contextmanager
def serving(folder: Path, tiles: int = 2, seconds: float = 0.0, **settings: Any) -> Iterator[ServerProcess]:
    """Serve from a process of its own with given settings; it keeps its files in ``folder``."""
    arguments = {"settings": {"port": 0, **settings}, "folder": str(folder), "pipe": [tiles, seconds]}
    command = [sys.executable, "-m", "tests.serving.server_process", json.dumps(arguments)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT / "src"), str(ROOT)])}
    with started(
        command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        preexec_fn=as_in_a_terminal,
    ) as process:  # fmt: skip
        server = ServerProcess(process)
        with server.http:
            yield server


def _main() -> None:
    from tests.serving.pipes import RepeatingPipe
    from tsdsr.serving.server import serve
    from tsdsr.serving.settings import ServeSettings

    given = json.loads(sys.argv[1])
    settings = ServeSettings(**given["settings"], folder=Path(given["folder"]))
    serve(lambda: RepeatingPipe(*given["pipe"]), settings, lambda url: print(f"serving {url}", flush=True))


if __name__ == "__main__":
    _main()
