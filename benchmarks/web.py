"""The static page in Chromium against Python's ONNX Runtime: seconds from a file of 128x128 to one of 512x512.

    make web
    python benchmarks/web.py              # 1 thread, and as many as there are cores
    python benchmarks/web.py --webgpu     # no times: whether WebGPU on SwiftShader gives Python's result

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

import numpy as np
from PIL import Image
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
    model = page.locator("#model", has_text="mini ·")
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


def compare_webgpu(chromium: Any, path: str | None, address: str, folder: Path) -> None:
    """Enlarge a small picture on WebGPU, with a GPU in software: it takes about a minute."""
    small, result = folder / "small.png", folder / "x4.png"
    Image.open(EXAMPLE).crop((20, 20, 52, 52)).save(small)
    tsdsr.upscale_file(small, result, engine="onnx")
    software = ["--enable-unsafe-webgpu", "--use-webgpu-adapter=swiftshader", "--enable-features=Vulkan"]
    browser = chromium.launch(executable_path=path, args=["--no-sandbox", *software])
    page = browser.new_page()
    page.goto(address)
    model = page.locator("#model", has_text="mini ·")
    model.wait_for(timeout=300_000)
    page.set_input_files("#files", small)
    page.click("#start")
    with page.expect_download(timeout=300_000) as download:
        page.locator("li[data-state=done] a.download").click(timeout=300_000)
    found, expected = (np.asarray(Image.open(file), np.int16) for file in (download.value.path(), result))
    print(f"{model.inner_text()}: differs from Python by at most {np.abs(found - expected).max()}")
    browser.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--webgpu", action="store_true")
    arguments = parser.parse_args()
    rounds = arguments.rounds
    if not (DIST / "index.html").is_file():
        raise SystemExit(f"{DIST}: contains no page; run make web")
    with (
        ThreadingHTTPServer(("127.0.0.1", 0), partial(Files, directory=str(DIST))) as server,
        sync_playwright() as playwright,
        tempfile.TemporaryDirectory() as folder,
    ):
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_port}/"
        path = shutil.which("chromium") or shutil.which("google-chrome")
        if arguments.webgpu:
            compare_webgpu(playwright.chromium, path, address, Path(folder))
            server.shutdown()
            return
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox", "--disable-gpu"])
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
