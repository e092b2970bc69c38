"""The static page in Chromium against Python's ONNX Runtime: seconds from a file of 128x128 to one of 512x512.

    make web
    python benchmarks/web.py              # 1 thread, and as many as there are cores

The page and Python take turns. Seconds are the least of all rounds: in the page, from the click to the finished file;
in Python, those of `tsdsr.upscale_file` with a loaded model. Without its service worker the page is not isolated, and
has one thread.
"""

from __future__ import annotations

import argparse
import os
import shutil
import tempfile
import threading
import time
from collections.abc import Callable
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from playwright.sync_api import sync_playwright

import tsdsr

ROOT = Path(__file__).resolve().parents[1]
EXAMPLE = ROOT / "examples" / "astronaut_lq.png"
DIST = ROOT / "web" / "dist"


class Files(SimpleHTTPRequestHandler):
    def log_message(self, *_: Any) -> None:
        pass


def in_page(browser: Any, address: str, isolated: bool) -> tuple[str, Callable[[], float]]:
    """Open the page; return its name, and a function that enlarges the example and returns the seconds."""
    context = browser.new_context(service_workers="allow" if isolated else "block")
    page = context.new_page()
    started = time.perf_counter()
    page.goto(f"{address}?wasm")
    model = page.locator("#model", has_text="mini (")
    model.wait_for(timeout=120_000)
    print(f"{model.inner_text()}: opened in {time.perf_counter() - started:.1f} s")

    def enlarge() -> float:
        page.set_input_files("#files", EXAMPLE)
        page.locator("#pictures > li[data-state=ready]").wait_for()
        started = time.perf_counter()
        page.click("#start")
        page.locator("#pictures > li:last-child[data-state=done]").wait_for(timeout=120_000)
        return time.perf_counter() - started

    return f"page: {model.inner_text()}", enlarge


def in_python(threads: int, folder: Path) -> tuple[str, Callable[[], float]]:
    pipe = tsdsr.load_pipeline("mini", engine="onnx", threads=threads)

    def enlarge() -> float:
        started = time.perf_counter()
        tsdsr.upscale_file(EXAMPLE, folder / "x4.png", model=pipe)
        return time.perf_counter() - started

    return f"Python: {threads} thread{'s' if threads > 1 else ''}", enlarge


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    if not (DIST / "index.html").is_file():
        raise SystemExit(f"{DIST}: holds no page; run make web")
    with (
        ThreadingHTTPServer(("127.0.0.1", 0), partial(Files, directory=str(DIST))) as server,
        sync_playwright() as playwright,
        tempfile.TemporaryDirectory() as folder,
    ):
        threading.Thread(target=server.serve_forever, daemon=True).start()
        path = shutil.which("chromium") or shutil.which("google-chrome")
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox", "--disable-gpu"])
        address = f"http://127.0.0.1:{server.server_port}/"
        cores = os.cpu_count() or 1
        ways = [in_page(browser, address, False), in_python(1, Path(folder))]
        if cores > 1:
            ways += [in_page(browser, address, True), in_python(cores, Path(folder))]
        seconds: dict[str, list[float]] = {name: [] for name, _ in ways}
        for _ in range(rounds):
            for name, enlarge in ways:
                seconds[name].append(enlarge())
        print(f"{browser.version}, {cores} cores, best of {rounds}")
        for name, values in seconds.items():
            print(f"{min(values):6.2f} s  {name}")
        browser.close()
        server.shutdown()


if __name__ == "__main__":
    main()
