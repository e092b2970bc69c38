"""What tests of pages have in common: a server of the page, what is on the page, accessibility."""

from __future__ import annotations

import io
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import numpy as np
import pytest
from PIL import Image

from tests.chromium import expect, until
from tests.serving.pipes import RepeatingPipe

pytest.importorskip("fastapi", reason="needs the extra 'serve'")

import uvicorn

from tsdsr.serving.app import create_app
from tsdsr.serving.settings import ServeSettings
from tsdsr.web import bind

DESK: dict[str, Any] = {"viewport": {"width": 1280, "height": 800}}
PHONE: dict[str, Any] = {"viewport": {"width": 360, "height": 740}, "has_touch": True, "is_mobile": True}


def photo(width: int = 24, height: int = 16, seed: int = 0) -> Image.Image:
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def encoded(image: Image.Image, format: str = "PNG") -> bytes:
    target = io.BytesIO()
    image.save(target, format)
    return target.getvalue()


def file(name: str, content: bytes | None = None, kind: str = "image/png") -> dict[str, Any]:
    """A file as Playwright takes it."""
    return {"name": name, "mimeType": kind, "buffer": encoded(photo()) if content is None else content}


@contextmanager
def serving(pipe: Any, port: int = 0, **settings: Any) -> Iterator[int]:
    """Serve from a thread; yield the port."""
    listener = bind("127.0.0.1", port)
    config = uvicorn.Config(
        create_app(pipe, ServeSettings(**settings)), log_level="error", ws="none", timeout_graceful_shutdown=1
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    try:
        yield listener.getsockname()[1]
    finally:
        server.should_exit = True
        thread.join(timeout=30)
        listener.close()
        assert not thread.is_alive()


class Page:
    """The page and the server behind it."""

    def __init__(self, page: Any, port: int, pipe: Any) -> None:
        self.page, self.port, self.pipe = page, port, pipe
        self.url = f"http://127.0.0.1:{port}"

    def ask(self, path: str, method: str = "GET", body: bytes | None = None, **headers: str) -> bytes:
        """Ask the server, past the page."""
        request = Request(self.url + path, body, headers, method=method)
        with urlopen(request, timeout=20) as answer:
            content: bytes = answer.read()
        return content

    def add(self, *files: dict[str, Any]) -> None:
        count = self.rows().count()
        self.page.set_input_files("#files", list(files))
        until(self.page, f"document.querySelectorAll('#pictures > li').length === {count + len(files)}")

    def rows(self, state: str | None = None) -> Any:
        return self.page.locator("#pictures > li" + (f"[data-state={state}]" if state else ""))

    def row(self, name: str) -> Any:
        return self.page.locator("#pictures > li", has=self.page.get_by_text(name, exact=True))

    def wait(self, state: str, count: int = 1) -> None:
        until(self.page, f"document.querySelectorAll('#pictures > li[data-state={state}]').length === {count}")

    def start(self) -> None:
        self.page.click("#start")

    def jobs(self) -> list[dict[str, Any]]:
        """The jobs that the page remembers, as the server shows them."""
        ids = json.loads(self.page.evaluate("sessionStorage.getItem('tsdsr-jobs')"))
        return [json.loads(self.ask(f"/v1/jobs/{id}")) for id in ids]

    def downloaded(self, selector: str) -> tuple[str, bytes]:
        with self.page.expect_download() as found:
            self.page.click(selector)
        return found.value.suggested_filename, Path(found.value.path()).read_bytes()


Open = Callable[..., Page]


@pytest.fixture
def open_page(browser: Any) -> Iterator[Open]:
    """Open the page of a new server; errors on the page and requests to elsewhere fail the test."""
    errors: list[str] = []
    with ExitStack() as stack:

        def open_it(
            pipe: Any = None, context: dict[str, Any] | None = None, expected: str = "nothing", **settings: Any
        ) -> Page:
            pipe = pipe or RepeatingPipe()
            if isinstance(pipe, RepeatingPipe):
                stack.callback(pipe.release)
            port = stack.enter_context(serving(pipe, **settings))
            page = stack.enter_context(browser.new_context(**(context or DESK))).new_page()

            def note(text: str) -> None:
                if expected not in text:
                    errors.append(text)

            def watch(request: Any) -> None:
                if not request.url.startswith((f"http://127.0.0.1:{port}/", "blob:", "data:")):
                    errors.append(f"request to {request.url}")

            page.on("pageerror", lambda error: note(str(error)))
            page.on("console", lambda message: note(message.text) if message.type in ("error", "warning") else None)
            page.on("request", watch)
            page.goto(f"http://127.0.0.1:{port}/")
            if "token" not in settings:
                expect(page.locator("#model")).to_have_text("mini")
            return Page(page, port, pipe)

        yield open_it
    assert errors == []


def carry(page: Any, event: str, files: list[dict[str, Any]]) -> None:
    """Drop files on the page, or paste them."""
    page.evaluate(
        """([event, files]) => {
          const carried = new DataTransfer();
          for (const { name, kind, bytes } of files)
            carried.items.add(new File([new Uint8Array(bytes)], name, { type: kind }));
          const about = { bubbles: true, cancelable: true };
          if (event === "paste")
            return document.dispatchEvent(new ClipboardEvent(event, { ...about, clipboardData: carried }));
          document.body.dispatchEvent(new DragEvent(event, { ...about, dataTransfer: carried }));
        }""",
        [event, [{"name": f["name"], "kind": f["mimeType"], "bytes": list(f["buffer"])} for f in files]],
    )


def axe_violations(page: Any) -> list[str]:
    """What axe-core finds wrong with the page as it is."""
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    found = axe.run(page)
    return [] if found.violations_count == 0 else [found.generate_report()]
