"""Check the pack in a real ComfyUI: results against the command's, progress, interrupt, batches, masks, errors.

Run it with ComfyUI's own Python, with tsdsr installed there::

    python integrations/comfyui/tests/check_real_comfyui.py /path/to/ComfyUI

With ``--browser`` it also opens the page in Chromium (package ``playwright``), loads every example workflow, runs it,
and stores pictures of the page.
"""

from __future__ import annotations

import argparse
import asyncio
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from comfy_page import check_page
from comfy_server import PACK, Comfy, Message, Prompt, make_base, running
from PIL import Image

from tsdsr.pipeline.model_files import resolve_model

EXAMPLE = PACK.parents[1] / "examples" / "astronaut_lq.png"
WORKFLOWS = sorted((PACK / "example_workflows").glob("*.json"))


def upscale_prompt(picture: str = "photo.png", load: dict[str, Any] | None = None, **options: Any) -> Prompt:
    """Return a prompt that loads a picture, enlarges it and saves it."""
    loading = {"model": "mini", "engine": "onnx", "device": "auto", "precision": "auto", **(load or {})}
    chosen = {"scale": 4.0, "width": 0, "height": 0, "fit": "contain", "detail": 1.0, "color_fix": "wavelet"}
    return {
        "load": node("LoadTSDSR", **loading),
        "picture": node("LoadImage", image=picture),
        "upscale": node(
            "TSDSRUpscale", model=["load", 0], image=["picture", 0], **{**chosen, "tile": 0, "seed": -1, **options}
        ),
        "save": node("SaveImage", images=["upscale", 0], filename_prefix="check"),
    }


def node(kind: str, **inputs: Any) -> dict[str, Any]:
    return {"class_type": kind, "inputs": inputs}


def by_command(base: Path, picture: str, *options: str) -> np.ndarray:
    """Return what the command makes of a picture of the input folder."""
    target = base / "by_command.png"
    command = [sys.executable, "-m", "tsdsr", "upscale", str(base / "input" / picture), "-o", str(target)]
    subprocess.run([*command, "--overwrite", "--engine", "onnx", *options], check=True, capture_output=True)
    return np.asarray(Image.open(target))


def require_same(found: np.ndarray, expected: np.ndarray) -> None:
    """Compare pictures. *Save Image* cuts values off instead of rounding them, so it may be one level darker."""
    assert found.shape == expected.shape, (found.shape, expected.shape)
    difference = expected.astype(int) - found
    assert difference.min() >= 0, difference.min()
    assert difference.max() <= 1, difference.max()


async def check_photo(comfy: Comfy, base: Path) -> str:
    run = await comfy.run(upscale_prompt())
    assert run.state == "execution_success", run.error
    require_same(run.images[0], by_command(base, "photo.png"))
    assert run.progress("upscale")[-1] == (1, 1)
    return f"{run.images[0].shape[1]}x{run.images[0].shape[0]}, within one level of the command's"


async def check_options(comfy: Comfy, base: Path) -> str:
    options: dict[str, Any] = {"width": 200, "height": 200, "fit": "cover", "detail": 0.4, "color_fix": "adain"}
    run = await comfy.run(upscale_prompt(**options))
    command = ("--target", "200x200", "--fit", "cover", "--detail", "0.4", "--color-fix", "adain")
    require_same(run.images[0], by_command(base, "photo.png", *command))
    assert (await comfy.run(upscale_prompt(width=300))).images[0].shape == (250, 300, 3)
    return "target, fit, detail and colour fix as by the command; one side follows from the other"


async def check_tiles(comfy: Comfy, base: Path) -> str:
    run = await comfy.run(upscale_prompt(tile=128, scale=3.0))
    require_same(run.images[0], by_command(base, "photo.png", "--tile", "128", "--scale", "3"))
    steps = run.progress("upscale")
    total = steps[-1][1]
    assert total > 1, steps
    assert steps[-total:] == [(n, total) for n in range(1, total + 1)], steps
    return f"{total} tiles, each reported"


async def check_mask(comfy: Comfy, base: Path) -> str:
    prompt = upscale_prompt("transparent.png", mask=["picture", 1])
    prompt["join"] = node("JoinImageWithAlpha", image=["upscale", 0], alpha=["upscale", 1])
    prompt["save"]["inputs"]["images"] = ["join", 0]
    found, expected = (await comfy.run(prompt)).images[0].astype(int), by_command(base, "transparent.png")
    assert found.shape == expected.shape, (found.shape, expected.shape)
    difference = np.abs(
        found - expected
    )  # the command fills colours below transparent pixels in 8 bits, the node in 16
    assert difference.max() <= 2, difference.max()
    assert (difference == 2).mean() < 1e-3, (difference == 2).mean()
    assert difference[..., 3].max() <= 1, difference[..., 3].max()
    opaque = await comfy.run(upscale_prompt(mask=["picture", 1]))  # of 64x64 zeros
    require_same(opaque.images[0], by_command(base, "photo.png"))
    return f"alpha within one level of the command's, colours too but for {(difference == 2).sum()} values of two"


async def check_batch(comfy: Comfy, base: Path) -> str:
    prompt = upscale_prompt()
    prompt["second"] = node("LoadImage", image="second.png")
    prompt["batch"] = node("ImageBatch", image1=["picture", 0], image2=["second", 0])
    prompt["upscale"]["inputs"]["image"] = ["batch", 0]
    run = await comfy.run(prompt)
    assert len(run.images) == 2
    for image, name in zip(run.images, ("photo.png", "second.png"), strict=True):
        require_same(image, by_command(base, name))
    assert run.progress("upscale")[-2:] == [(1, 2), (2, 2)]
    return "two pictures, one progress"


async def check_interrupt(comfy: Comfy, base: Path) -> str:
    asked: list[float] = []

    async def interrupt(message: Message) -> None:
        if message["type"] == "progress" and message["data"]["node"] == "upscale" and not asked:
            asked.append(time.perf_counter())
            await comfy.post("/interrupt")

    run = await comfy.run(upscale_prompt("large.png", tile=256), interrupt)
    seconds = time.perf_counter() - asked[0]
    assert run.state == "execution_interrupted", run.state
    done, total = run.progress("upscale")[-1]
    assert done < total / 2, (done, total)
    assert (await comfy.run(upscale_prompt(scale=2.0))).state == "execution_success"
    return f"after {done} of {total} tiles, {seconds:.1f} s after it was asked for; the next prompt runs"


async def check_errors(comfy: Comfy, base: Path) -> str:
    status, answer = await comfy.post("/prompt", {"prompt": upscale_prompt(tile=16), "client_id": "check"})
    details = answer["node_errors"]["upscale"]["errors"][0]["details"]
    assert (status, details) == (400, "tile - tile must be at least 64 pixels, got 16"), answer
    run = await comfy.run(upscale_prompt(width=20))
    assert run.error.startswith("target 20x17 is "), run.error
    run = await comfy.run(upscale_prompt(load={"path": "/nowhere"}))
    assert run.error.startswith("/nowhere: no such model;"), run.error
    prompt = upscale_prompt("transparent.png", mask=["other", 1])
    prompt["other"] = node("LoadImage", image="large_transparent.png")
    run = await comfy.run(prompt)
    assert "connect the mask of the same pictures" in run.error, run.error
    assert all("\n" not in text for text in (details, run.error))
    return f"refused before the run: {details!r}"


async def check_models(comfy: Comfy, base: Path) -> str:
    expected = by_command(base, "photo.png").astype(int)
    for load, tolerance in (
        ({"model": "my-mini"}, 1),
        ({"engine": "torch", "precision": "fp32"}, 1),
        ({"engine": "auto"}, 4),  # bfloat16 in torch, if the CPU has it
    ):
        run = await comfy.run(upscale_prompt(load=load))
        assert run.state == "execution_success", run.error
        difference = np.abs(run.images[0] - expected).max()
        assert difference <= tolerance, (load, difference)
    return "a folder in models/tsdsr in ONNX Runtime, mini in torch in float32, and in the engine of 'auto'"


async def check_stock_nodes(comfy: Comfy, base: Path) -> str:
    prompt = {
        "load": node("UpscaleModelLoader", model_name="tsdsr-mini.safetensors"),
        "picture": node("LoadImage", image="photo.png"),
        "upscale": node("ImageUpscaleWithModel", upscale_model=["load", 0], image=["picture", 0]),
        "save": node("SaveImage", images=["upscale", 0], filename_prefix="stock"),
    }
    run = await comfy.run(prompt)
    assert run.state == "execution_success", run.error
    require_same(run.images[0], by_command(base, "photo.png"))
    prompt["picture"]["inputs"]["image"] = "wide.png"
    difference = np.abs((await comfy.run(prompt)).images[0].astype(int) - by_command(base, "wide.png"))
    share = (difference > 2).mean()
    return (
        f"up to 512 pixels as by the command; larger ones in ComfyUI's tiles: {share:.2%} of the values differ by "
        f"more than 2 levels, at most by {difference.max()}"
    )


async def check_templates(comfy: Comfy, base: Path) -> str:
    listed = (await comfy.get("/api/workflow_templates"))["comfyui-tsdsr"]
    assert sorted(listed) == [path.stem for path in WORKFLOWS], listed
    for path in WORKFLOWS:
        picture = await comfy.get(f"/api/workflow_templates/comfyui-tsdsr/{path.stem}.jpg")
        assert len(picture) < 100_000, path
    return f"{len(WORKFLOWS)} example workflows with pictures"


CHECKS = [
    check_photo,
    check_options,
    check_tiles,
    check_mask,
    check_batch,
    check_interrupt,
    check_errors,
    check_models,
    check_stock_nodes,
    check_templates,
]


def make_inputs(folder: Path) -> None:
    """Store the pictures of the checks: crops, one with a hole, an enlarged one, and a wide one that ComfyUI tiles."""
    picture = Image.open(EXAMPLE).convert("RGB")
    picture.save(folder / "example.png")
    picture.crop((10, 10, 106, 90)).save(folder / "photo.png")
    picture.crop((30, 40, 126, 120)).save(folder / "second.png")
    large = picture.resize((640, 600), Image.Resampling.BICUBIC)
    large.save(folder / "large.png")
    large.crop((0, 250, 600, 330)).save(folder / "wide.png")
    for name, source in (("transparent.png", Image.open(folder / "photo.png")), ("large_transparent.png", large)):
        rows, columns = np.mgrid[: source.height, : source.width]
        distance = np.hypot(rows - source.height / 2, columns - source.width / 2)
        alpha = np.clip(255 * (distance - source.height / 4), 0, 255).astype(np.uint8)
        source.putalpha(Image.fromarray(alpha))
        source.save(folder / name)


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkout", type=Path, help="ComfyUI's repository")
    parser.add_argument("--port", type=int, default=8199)
    parser.add_argument("--only", help="run only checks whose name contains this")
    parser.add_argument("--browser", type=Path, help="Chromium, to check the page as well")
    parser.add_argument("--pictures", type=Path, help="folder for pictures of the page")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="comfy-check-") as temporary:
        base = Path(temporary)
        make_base(base, resolve_model("mini"))
        make_inputs(base / "input")
        async with running(arguments.checkout.resolve(), base, arguments.port) as comfy:
            try:
                for check in CHECKS:
                    if arguments.only is None or arguments.only in check.__name__:
                        start = time.perf_counter()
                        found = await check(comfy, base)
                        print(f"ok  {check.__name__:18} {time.perf_counter() - start:5.1f} s  {found}", flush=True)
                if arguments.browser:
                    for line in await check_page(comfy.url, WORKFLOWS, arguments.browser, arguments.pictures):
                        print(f"ok  {'page':18} {line}", flush=True)
            except BaseException:
                print((base / "server.log").read_text(encoding="utf-8", errors="replace")[-6000:], file=sys.stderr)
                raise


if __name__ == "__main__":
    asyncio.run(main())
