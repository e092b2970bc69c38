"""Create the example of the web page and the picture of the page in docs/how-to/web-page.md.

    python examples/make_page_pictures.py

The example is scikit-image's cat (CC0), reduced, and what `mini` makes of it. The page is photographed in Chromium at
work on photographs of scikit-image (CC0 and public domain).
"""

from __future__ import annotations

import io
import shutil
import socket
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import skimage.data
import uvicorn
from PIL import Image
from playwright.sync_api import sync_playwright

import tsdsr
from tsdsr.serving.app import create_app

ROOT = Path(__file__).resolve().parents[1]
ASSETS = ROOT / "src" / "tsdsr" / "serving" / "assets"
SIZES = {"chelsea": (225, 150), "coffee": (240, 160), "astronaut": (192, 192), "rocket": (640, 427)}


def main() -> None:
    pipe = tsdsr.load_pipeline("mini")
    reduced("chelsea").save(ASSETS / "example.jpg", quality=88, subsampling=0, optimize=True)
    with Image.open(ASSETS / "example.jpg") as stored:
        result = pipe.upscale_pixels(np.asarray(stored.convert("RGB")), 4)
    Image.fromarray(result).save(ASSETS / "example-after.webp", quality=82, method=6)
    photograph_page(pipe).save(ROOT / "docs" / "images" / "serving.webp", quality=84, method=6)


def reduced(name: str) -> Image.Image:
    """Return a photograph of scikit-image in its size of ``SIZES``."""
    return Image.fromarray(getattr(skimage.data, name)()).resize(SIZES[name], Image.Resampling.LANCZOS)


def photograph_page(pipe: Any) -> Image.Image:
    """Return the page while it works on its last picture."""
    listener = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(create_app(pipe), log_level="error", ws="none"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1180, "height": 620}, color_scheme="light")
        page.goto(f"http://127.0.0.1:{listener.getsockname()[1]}/")
        files = []
        for name in SIZES:
            content = io.BytesIO()
            reduced(name).save(content, "JPEG", quality=90)
            files.append({"name": f"{name}.jpg", "mimeType": "image/jpeg", "buffer": content.getvalue()})
        page.set_input_files("#files", files)
        page.click("#start")
        while "Tile" not in page.inner_text("#pictures") or page.locator("[data-state=done]").count() < len(SIZES) - 1:
            time.sleep(0.1)
        time.sleep(0.5)  # the bar moves to its place
        shown = Image.open(io.BytesIO(page.screenshot()))
        browser.close()
    server.should_exit = True
    thread.join()
    return shown


if __name__ == "__main__":
    main()
