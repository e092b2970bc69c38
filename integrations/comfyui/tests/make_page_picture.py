"""Make the picture of ComfyUI's page with this pack, docs/images/comfyui.webp.

    python integrations/comfyui/tests/make_page_picture.py /path/to/ComfyUI /path/to/chromium

Run it with ComfyUI's own Python, with tsdsr and playwright installed there. The photograph is scikit-image's astronaut
(NASA, public domain), made small.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import tempfile
from pathlib import Path

from comfy_page import check_page
from comfy_server import PACK, make_base, running
from PIL import Image

from tsdsr.pipeline.model_files import resolve_model

ROOT = PACK.parents[1]
WORKFLOW = PACK / "example_workflows" / "Enlarge a photograph.json"
PICTURE = ROOT / "docs" / "images" / "comfyui.webp"
NODES = (110, 95, 1340, 786)
"""Left, top, right and bottom of the nodes on the page, in pixels."""


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkout", type=Path, help="ComfyUI's repository")
    parser.add_argument("browser", type=Path, help="Chromium")
    parser.add_argument("--port", type=int, default=8199)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="comfy-page-") as temporary:
        base = Path(temporary)
        make_base(base, resolve_model("mini"))
        Image.open(ROOT / "examples" / "astronaut_lq.png").convert("RGB").save(base / "input" / "example.png")
        settings = base / "user" / "default" / "comfy.settings.json"
        settings.parent.mkdir()
        settings.write_text(json.dumps({"Comfy.Minimap.Visible": False}))  # it would lie over the picture
        async with running(arguments.checkout.resolve(), base, arguments.port) as comfy:
            await check_page(comfy.url, [WORKFLOW], arguments.browser, base / "pictures")
        with Image.open(base / "pictures" / f"{WORKFLOW.stem}.png") as shown:
            shown.convert("RGB").crop(NODES).save(PICTURE, quality=84, method=6)


if __name__ == "__main__":
    asyncio.run(main())
