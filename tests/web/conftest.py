"""Fixtures: the static page, built from the present sources and served from a folder of a host."""

from __future__ import annotations

import re
import shutil
import subprocess
import threading
from collections.abc import Callable, Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

WEB = Path(__file__).resolve().parents[2] / "web"
OLDEST_NODE = (20, 19)


@pytest.fixture(scope="session")
def node() -> str:
    """Node.js with the packages of the page."""
    path = shutil.which("node")
    if path is None:
        pytest.skip("no Node.js on this machine: apt install nodejs npm")
    version = subprocess.run([path, "--version"], capture_output=True, text=True, check=True).stdout
    if tuple(int(part) for part in re.findall(r"\d+", version)[:2]) < OLDEST_NODE:
        pytest.skip(f"Node.js {version.strip()} is too old for the page: it needs 20.19")
    if not (WEB / "node_modules" / "vite").is_dir():
        pytest.skip("the packages of the page are not installed: run make web")
    return path


@pytest.fixture(scope="session")
def built(node: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A host's folder that has the page in ``photos/``."""
    host = tmp_path_factory.mktemp("host")
    command = [node, "node_modules/vite/bin/vite.js", "build", "--logLevel", "warn", "--outDir", str(host / "photos")]
    result = subprocess.run(command, cwd=WEB, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr + result.stdout
    return host


class Host(ThreadingHTTPServer):
    """A host of static files that sets no headers."""

    daemon_threads = True


class _Files(SimpleHTTPRequestHandler):
    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def host(built: Path) -> Iterator[Host]:
    with Host(("127.0.0.1", 0), partial(_Files, directory=str(built))) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        yield server
        server.shutdown()
        thread.join(timeout=30)


Open = Callable[..., Any]


@pytest.fixture
def opened(browser: Any, host: Host) -> Iterator[Open]:
    """Open the page and wait for its model; an error on the page fails the test."""
    errors: list[str] = []
    contexts = []

    def open_page(query: str = "", **options: Any) -> Any:
        context = browser.new_context(**options)
        contexts.append(context)
        page = context.new_page()
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
        page.goto(f"http://127.0.0.1:{host.server_port}/photos/{query}")
        page.locator("#model", has_text="mini ·").wait_for()
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert errors == []
