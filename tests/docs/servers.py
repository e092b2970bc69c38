"""Servers that a page starts: they run in threads, at free ports, until another takes their place or the page ends."""

from __future__ import annotations

import os
import re
import shlex
import threading
from contextlib import ExitStack
from typing import Any
from unittest import mock

import uvicorn

from tests.study.conftest import Client
from tsdsr.cli import app

COMMAND = re.compile(r"(?:^|\s)tsdsr (study )?serve\b")
USUAL_PORTS = {"tsdsr serve": "8787", "tsdsr study serve": "8000"}


class RunningServer:
    """A command that serves, in a thread.

    Args:
        words (list of str): the command without ``tsdsr``; it takes a free port.

    Attributes:
        port (str): where it listens.
    """

    def __init__(self, words: list[str]) -> None:
        self._words, self._listening = words, threading.Event()
        self._server: uvicorn.Server | None = None
        self._failure: BaseException | None = None
        self.port = ""
        run = uvicorn.Server.run

        def run_and_tell(server: uvicorn.Server, sockets: Any) -> None:
            self._server, self.port = server, str(sockets[0].getsockname()[1])
            self._listening.set()
            run(server, sockets)

        with mock.patch.object(uvicorn.Server, "run", run_and_tell):
            self._thread = threading.Thread(target=self._run, daemon=True)
            self._thread.start()
            assert self._listening.wait(120), "the server does not listen"
        assert self._server is not None, f"the server ended: {self._failure!r}"

    def _run(self) -> None:
        try:
            app(self._words, standalone_mode=False)
        except BaseException as error:  # also SystemExit: the command refuses its arguments
            self._failure = error
        self._listening.set()

    def stop(self) -> None:
        """Stop serving."""
        assert self._server is not None
        self._server.should_exit = True
        self._thread.join(timeout=60)
        assert not self._thread.is_alive(), "the server does not stop"


class Servers:
    """The servers of a page.

    Args:
        stack (ExitStack): stops them.

    Attributes:
        ports (dict): the port that a page names → the one where the server listens.
    """

    def __init__(self, stack: ExitStack) -> None:
        self.ports: dict[str, str] = {}
        self._stack = stack
        self._running: dict[str, ExitStack] = {}

    def start(self, text: str) -> None:
        """Start a server as a command says; it takes the place of an earlier one at the same port."""
        variables = dict(word.split("=", 1) for word in shlex.split(text.partition("tsdsr ")[0]))
        words = [word for word in shlex.split(text.partition("tsdsr ")[2].rstrip(" &")) if word != "--open"]
        kind = "tsdsr study serve" if words[0] == "study" else "tsdsr serve"
        named = words[words.index("--port") + 1] if "--port" in words else USUAL_PORTS[kind]
        if named in self._running:
            self._running[named].close()
        with mock.patch.dict(os.environ, variables):
            server = RunningServer([*words, "--port", "0"])
        self._running[named] = self._stack.enter_context(ExitStack())
        self._running[named].callback(server.stop)
        self.ports[named] = server.port
        if words[0] == "study":
            vote(int(server.port))

    def with_real_ports(self, text: str) -> str:
        """Return a command or a snippet that asks the servers where they are."""
        for named, port in self.ports.items():
            text = re.sub(rf"\b{named}\b", port, text)
        return text


def vote(port: int) -> None:
    """Vote as a visitor of a study's page does who likes the first picture best, always."""
    voter = Client(port)
    for trial in voter.state("POST")["trials"]:
        assert voter.vote(trial["candidates"][0]) == 201
