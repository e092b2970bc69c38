"""ComfyUI's page in Chromium: every example workflow is loaded, run and photographed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

_LOAD = """async workflow => {
    await window.app.loadGraphData(workflow);
    await new Promise(done => setTimeout(done, 500));
    const missing = window.app.graph.nodes.filter(n => n.has_errors || !window.LiteGraph.registered_node_types[n.type]);
    const links = window.app.graph.nodes.flatMap(n => n.inputs ?? []).filter(i => i.link != null).length;
    return {missing: missing.map(n => n.type), links};
}"""
_QUEUE = """() => new Promise((done, failed) => {
    const api = window.app.api;
    api.addEventListener('execution_success', () => done('success'), {once: true});
    api.addEventListener('execution_error', e => done(e.detail.exception_message), {once: true});
    window.app.queuePrompt(0).then(() => {
        if (Object.keys(window.app.lastNodeErrors ?? {}).length) done('refused');
    });
})"""
_SHOWN = """() => window.app.graph.nodes.filter(node => node.type === 'SaveImage')
    .every(node => node.imgs?.length && node.imgs.every(image => image.complete))"""


async def check_page(url: str, workflows: list[Path], browser: Path, pictures: Path | None) -> list[str]:
    """Load and run workflows in the page.

    Args:
        url (str): ComfyUI's address.
        workflows (list of Path): workflows in the format of the page.
        browser (Path): Chromium.
        pictures (Path | None): folder for a picture of the page with each workflow.

    Returns:
        list of str: a line for each workflow.
    """
    from playwright.async_api import async_playwright

    lines = []
    async with async_playwright() as playwright:
        chromium = await playwright.chromium.launch(executable_path=str(browser))
        page = await chromium.new_page(viewport={"width": 1500, "height": 850})
        await page.goto(url)
        await page.wait_for_function("() => window.LiteGraph?.registered_node_types?.TSDSRUpscale", timeout=120_000)
        await page.get_by_text("comfyui-tsdsr").first.click()  # the first visit opens the browser of templates
        for path in workflows:
            await page.get_by_text(path.stem).first.wait_for()
        await _photograph(page, pictures, "templates")
        await page.keyboard.press("Escape")
        for path in workflows:
            found = await page.evaluate(_LOAD, json.loads(path.read_text(encoding="utf-8")))
            assert not found["missing"], f"{path.name}: unknown nodes {found['missing']}"
            ended = await page.evaluate(_QUEUE)
            assert ended == "success", f"{path.name}: {ended}"
            await page.wait_for_function(_SHOWN)
            await _photograph(page, pictures, path.stem)
            lines.append(f"{path.name}: {found['links']} links, ran to its end")
        await chromium.close()
    return lines


async def _photograph(page: Any, folder: Path | None, name: str) -> None:
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
        await page.wait_for_timeout(1500)
        await page.screenshot(path=folder / f"{name}.png")
