"""Fixtures: a server in this process around a pipeline that repeats pixels."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.serving.pipes import RepeatingPipe

pytest.importorskip("fastapi", reason="needs the extra 'serve'")

from starlette.testclient import TestClient

from tests.serving.in_browser import open_page  # noqa: F401 - a fixture
from tsdsr.serving.app import create_app
from tsdsr.serving.settings import ServeSettings

ADDRESS = "http://127.0.0.1:8787"
Serve = Callable[..., TestClient]


def picture(width: int = 12, height: int = 8, format: str = "PNG", mode: str = "RGB", **options: Any) -> bytes:
    """An encoded picture of noise."""
    channels = len(Image.new(mode, (1, 1)).getbands())
    pixels = np.random.default_rng(0).integers(0, 256, (height, width, channels), np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels[..., 0] if channels == 1 else pixels).save(file, format, **options)
    return file.getvalue()


def opened(content: bytes) -> Image.Image:
    """Decode a picture."""
    image = Image.open(io.BytesIO(content))
    image.load()
    return image


@pytest.fixture
def pipe() -> RepeatingPipe:
    return RepeatingPipe()


@pytest.fixture
def serve(pipe: RepeatingPipe, tmp_path: Path) -> Iterator[Serve]:
    """Return clients of servers with given settings."""
    with ExitStack() as clients:

        def start(**settings: Any) -> TestClient:
            app = create_app(pipe, ServeSettings(folder=tmp_path / "spool", **settings))
            return clients.enter_context(TestClient(app, ADDRESS, raise_server_exceptions=False))

        yield start
        pipe.release()


@pytest.fixture
def client(serve: Serve) -> TestClient:
    """A client of a server with the usual settings."""
    return serve()


def files_in(client: TestClient) -> list[str]:
    """Names of the uploads and results that a server keeps."""
    folder = client.app.state.queue.spool.folder  # type: ignore[attr-defined]
    return sorted(path.name for path in folder.iterdir() if path.name != "lock")


def wait_for(client: TestClient, id: str) -> dict[str, Any]:
    """Wait for the end of a job; return it."""
    job = client.app.state.queue.find(id)  # type: ignore[attr-defined]
    assert job.ended.wait(20)
    found: dict[str, Any] = client.get(f"/v1/jobs/{id}").json()
    return found


def problem(response: Any) -> tuple[int, str]:
    """Status and type of an answer that is a problem."""
    assert response.headers["content-type"] == "application/problem+json"
    content = response.json()
    assert content["status"] == response.status_code
    assert content["title"]
    assert content["detail"]
    return response.status_code, content["type"].removeprefix("/problems/")
