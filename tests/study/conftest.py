"""Fixtures: a small study whose systems differ in colour, and its server."""

from __future__ import annotations

import http.client
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tsdsr.study.create import create_study
from tsdsr.study.definition import VOTES, Study
from tsdsr.study.votes import VoteStore

TINTS = {"alpha": (200, 40, 40), "beta": (40, 200, 40), "gamma": (40, 40, 200)}
STEMS = ("cat", "dog", "house", "tree")
CATEGORIES = {"cat": "Animals", "dog": "Animals", "house": "Buildings", "tree": "Vegetation"}


@pytest.fixture
def folders(tmp_path: Path) -> dict[str, Path]:
    """``lr``, ``gt`` and a folder for each system: noise around the system's colour, 64x48."""
    rng = np.random.default_rng(0)
    for label, tint in {"lr": (90, 90, 90), "gt": (120, 120, 120), **TINTS}.items():
        (tmp_path / label).mkdir()
        for stem in STEMS:
            shape = (12, 16, 3) if label == "lr" else (48, 64, 3)
            pixels = np.array(tint) + rng.integers(-20, 21, shape)
            Image.fromarray(pixels.astype(np.uint8)).save(tmp_path / label / f"{stem}.png")
    return {label: tmp_path / label for label in ("lr", "gt", *TINTS)}


Make = Callable[..., Study]


@pytest.fixture
def make(folders: dict[str, Path], tmp_path: Path) -> Make:
    """Make a study in ``tmp_path / "study"``."""
    table = tmp_path / "categories.csv"
    table.write_text("".join(f"{stem},{name}\n" for stem, name in CATEGORIES.items()))

    def make_study(**options: Any) -> Study:
        systems = {name: folders[name] for name in TINTS}
        arguments = {"lr": folders["lr"], "gt": folders["gt"], "systems": systems, "categories": table, **options}
        return create_study(tmp_path / "study", **arguments)

    return make_study


@dataclass
class Client:
    """A voter without a browser: keeps the cookie."""

    port: int
    cookie: str | None = None
    headers: dict[str, str] = field(default_factory=dict)

    def ask(self, method: str, path: str, body: Any = None, **headers: str) -> tuple[int, bytes]:
        """Status and body; a body that is not bytes is sent as JSON."""
        if body is not None and not isinstance(body, bytes):
            body = json.dumps(body).encode()
        sent = {"Content-Type": "application/json", **headers}
        if self.cookie is not None:
            sent["Cookie"] = self.cookie
        with closing(http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)) as connection:
            connection.request(method, path, body, sent)
            response = connection.getresponse()
            self.headers = {name.lower(): value for name, value in response.getheaders()}
            content = response.read()
        if given := self.headers.get("set-cookie"):
            self.cookie = given.split(";")[0]
        return response.status, content

    def state(self, method: str = "GET") -> dict[str, Any]:
        status, content = self.ask(method, "/api/session")
        assert status in (200, 201)
        found: dict[str, Any] = json.loads(content)
        return found

    def vote(self, choice: Any) -> int:
        return self.ask("POST", "/api/vote", {"choice": choice})[0]


@contextmanager
def serving(folder: Path, **store_options: float) -> Iterator[int]:
    """Serve a study from a thread; yield the port."""
    pytest.importorskip("starlette")
    uvicorn = pytest.importorskip("uvicorn")
    from tsdsr.study.server import StudyServer
    from tsdsr.web import bind

    with closing(bind("127.0.0.1", 0)) as listener, closing(VoteStore(folder / VOTES, **store_options)) as store:
        app = StudyServer(Study.load(folder), folder, store).app
        server = uvicorn.Server(uvicorn.Config(app, lifespan="off", log_level="warning", access_log=False, ws="none"))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
        thread.start()
        try:
            yield listener.getsockname()[1]
        finally:
            server.should_exit = True
            thread.join(timeout=60)
        assert not thread.is_alive()


@pytest.fixture
def port(make: Make, tmp_path: Path) -> Iterator[int]:
    """The port where the small study is served."""
    make()
    with serving(tmp_path / "study") as number:
        yield number
