"""Make the picture of the Space, docs/images/space.webp.

    .venv-space/bin/python examples/make_space_picture.py

`make test-space` makes the environment. The photograph is the Space's own example, scikit-image's cup of coffee (CC0).
"""

from __future__ import annotations

import io
import os
import shutil
import sys
from pathlib import Path

from PIL import Image
from playwright.sync_api import sync_playwright

ROOT = Path(__file__).resolve().parents[1]
PICTURE = ROOT / "docs" / "images" / "space.webp"


def main() -> None:
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    sys.path.insert(0, str(ROOT / "integrations" / "space"))
    import app

    from tsdsr import load_pipeline

    space = app.build(load_pipeline("mini", engine="onnx"))
    _, address, _ = space.launch(server_name="127.0.0.1", prevent_thread_lock=True, quiet=True, **app.LAUNCH)
    photograph_page(address).convert("RGB").save(PICTURE, quality=74, method=6)
    space.close()


def photograph_page(address: str) -> Image.Image:
    """Return the page after it has enlarged the cup of coffee."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1200, "height": 968}, color_scheme="light")
        page.goto(address)
        page.locator(".gallery-item").nth(2).click()  # astronaut, cat, coffee: in the order of their names
        page.locator(".image-frame img").wait_for()
        page.get_by_role("button", name="Enlarge", exact=True).click()
        page.locator("a[download]").last.wait_for(timeout=120_000)
        page.wait_for_timeout(2000)  # the slider moves to its place
        shown = Image.open(io.BytesIO(page.screenshot()))
        browser.close()
    return shown


if __name__ == "__main__":
    main()
