"""<before-after> by itself, in a real browser: divider, magnification, keys, touch, larger versions, accessibility."""

from __future__ import annotations

import io
import mimetypes
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import pytest
from PIL import Image

import tsdsr.serving
from tests.chromium import PATIENCE, drawn, expect, until

ASSETS = Path(tsdsr.serving.__file__).parent / "assets"
POLICY = "default-src 'self'; base-uri 'none'; object-src 'none'"
PAGE = """<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Viewer</title>
<link rel="icon" href="/icon.png"><link rel="stylesheet" href="/page.css">
<script type="module" src="/before-after.js"></script></head>
<body><main><h1>Viewer</h1><before-after id="viewer" alt="noise"></before-after></main></body></html>"""
STYLE = "body { margin: 0 } h1 { margin: 0; height: 40px } before-after { height: 500px } main { height: 2000px }"
STAGE = {"x": 0, "y": 40, "width": 800, "height": 448}  # the bar takes 52

Show = Callable[..., Any]


def png(width: int, height: int) -> bytes:
    pixels = np.random.default_rng(width).integers(0, 256, (height, width, 3), dtype=np.uint8)
    target = io.BytesIO()
    Image.fromarray(pixels).save(target, "PNG")
    return target.getvalue()


@pytest.fixture
def show(browser: Any) -> Iterator[Show]:
    """Show the element with the attributes given; pictures are named after their size, ``80x60.png``."""
    errors: list[str] = []
    contexts = []

    def answer(route: Any) -> None:
        name = urlsplit(route.request.url).path[1:]
        kind = mimetypes.guess_type(name)[0] or "text/html"
        if name == "missing.png":
            route.fulfill(status=404)
        elif name.endswith(".png"):
            width, height = (16, 16) if name == "icon.png" else map(int, name[:-4].split("-")[-1].split("x"))
            route.fulfill(body=png(width, height), content_type=kind)
        else:
            body = {"": PAGE, "page.css": STYLE}.get(name) or (ASSETS / name).read_text()
            headers = {"Content-Security-Policy": POLICY, "Content-Type": kind}
            route.fulfill(body=body, headers=headers)

    def open_viewer(options: dict[str, Any] | None = None, **attributes: str) -> Any:
        context = browser.new_context(viewport={"width": 800, "height": 600}, **(options or {}))
        contexts.append(context)
        context.route("**/*", answer)
        page = context.new_page()
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
        page.goto("http://viewer.test/")
        pair(page, **attributes)
        return page

    yield open_viewer
    for context in contexts:
        context.close()
    assert [error for error in errors if "404" not in error] == []


def pair(page: Any, **attributes: str) -> None:
    """Set attributes and wait until the pictures are there."""
    page.evaluate(
        """attributes => new Promise((resolve) => {
          viewer.addEventListener("ready", resolve, { once: true });
          for (const [name, text] of Object.entries(attributes)) viewer.setAttribute(name.replace("_", "-"), text);
        })""",
        attributes,
    )


def state(page: Any) -> dict[str, Any]:
    """Where the pictures and the divider are, in CSS pixels of the window."""
    found: dict[str, Any] = page.evaluate(
        """() => {
          const sides = ({ x, y, width, height }) => ({ x, y, width, height });
          const box = (it) => it && sides(it.getBoundingClientRect());
          const find = (selector) => viewer.shadowRoot.querySelector(selector);
          const after = find("#after img") ?? find("#before img");
          return { before: box(find("#before img")), after: box(find("#after img")), value: viewer.value,
            zoom: viewer.zoom, fitted: viewer.fitted, clip: find("#before").style.clipPath,
            rendering: getComputedStyle(after).imageRendering, text: find("#divider").ariaValueText };
        }"""
    )
    return found


def shows(page: Any, **expected: Any) -> None:
    """Wait until the state has the values given."""
    deadline = time.monotonic() + PATIENCE
    while (seen := {name: state(page)[name] for name in expected}) != expected and time.monotonic() < deadline:
        page.wait_for_timeout(20)
    assert seen == expected


def under(box: dict[str, float], x: float, y: float) -> tuple[float, float]:
    return (x - box["x"]) / box["width"], (y - box["y"]) / box["height"]


def drag(page: Any, start: tuple[float, float], end: tuple[float, float]) -> None:
    page.mouse.move(*start)
    page.mouse.down()
    page.mouse.move(*end, steps=4)
    page.mouse.up()


def test_the_divider_follows_pointer_and_keys(show: Show) -> None:
    page = show(before="100x80.png", after="400x320.png")
    seen = state(page)
    assert seen["before"] == seen["after"] == {"x": 200, "y": 104, "width": 400, "height": 320}
    assert (seen["value"], seen["zoom"], seen["fitted"], seen["rendering"]) == (50, 1, True, "auto")
    drag(page, (250, 150), (300, 300))
    shows(page, value=pytest.approx(25))
    page.mouse.click(500, 300)
    shows(page, value=pytest.approx(75), clip="inset(0px calc(100% - 500px) 0px 0px)")
    page.keyboard.press("Tab")  # the divider is the first thing in the order
    page.keyboard.press("ArrowRight")
    shows(page, text="76 % Before, 24 % After")
    page.keyboard.press("Home")
    shows(page, value=0)
    expect(page.get_by_role("slider", name="Divider between Before and After")).to_have_count(1)


def test_both_pictures_are_enlarged_at_one_place(show: Show) -> None:
    page = show(before="100x80.png", after="400x320.png")
    page.mouse.move(300, 200)
    page.mouse.wheel(0, -400)
    until(page, "viewer.zoom > 2")  # narrower than the frame, it would be kept in the middle
    place = under(state(page)["after"], 300, 200)
    page.mouse.wheel(0, -400)
    until(page, "viewer.zoom > 4")
    seen = state(page)
    assert seen["before"] == seen["after"]
    assert under(seen["after"], 300, 200) == pytest.approx(place, abs=1e-3)
    assert seen["rendering"] == "pixelated"
    drag(page, (300, 200), (350, 180))
    until(page, lambda: under(state(page)["after"], 350, 180) == pytest.approx(place, abs=1e-3))
    moved = state(page)
    assert moved["value"] == seen["value"] == 50
    drag(page, (400, 264), (480, 264))  # the knob moves the divider also where a drag moves the picture
    shows(page, value=pytest.approx(60), after=moved["after"])
    page.keyboard.press("Tab")
    page.keyboard.press("Shift+ArrowRight")
    until(page, lambda: state(page)["after"]["x"] == pytest.approx(moved["after"]["x"] - 80))
    page.keyboard.press("1")
    shows(page, zoom=1)
    page.keyboard.press("+")
    shows(page, zoom=pytest.approx(2**0.5), rendering="auto")
    page.keyboard.press("+")
    shows(page, zoom=pytest.approx(2), rendering="pixelated")
    for _ in range(12):
        page.keyboard.press("+")
    shows(page, zoom=pytest.approx(16))
    page.keyboard.press("0")
    shows(page, fitted=True)


def test_a_double_click_enlarges_and_leaves_the_divider(show: Show) -> None:
    page = show(before="80x60.png", after="1600x1200.png")
    fit = STAGE["height"] / 1200
    assert state(page)["zoom"] == pytest.approx(fit)
    place = under(state(page)["after"], 500, 300)
    page.mouse.dblclick(500, 300)
    shows(page, zoom=pytest.approx(1), value=50)
    assert under(state(page)["after"], 500, 300) == pytest.approx(place, abs=1e-3)
    page.mouse.dblclick(500, 300)
    shows(page, zoom=pytest.approx(fit))


def test_pinching(show: Show) -> None:
    page = show({"has_touch": True}, before="100x80.png", after="400x320.png")
    touch = page.context.new_cdp_session(page)

    def fingers(kind: str, apart: float | None) -> None:
        points = [] if apart is None else [{"x": 400 + side * apart, "y": 264, "id": side} for side in (-1, 1)]
        touch.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})

    fingers("touchStart", 30)
    for apart in (40, 50, 60, 75, 90):
        fingers("touchMove", apart)
    fingers("touchEnd", None)
    shows(page, zoom=pytest.approx(3, rel=0.1), value=50)
    assert page.evaluate("visualViewport.scale") == 1  # the pictures were enlarged, not the page


def test_the_original_is_seen_while_held(show: Show) -> None:
    page = show(before="100x80.png", after="400x320.png")
    hold = page.get_by_role("button", name="Hold to see the original")
    box = hold.bounding_box()
    page.mouse.move(box["x"] + 5, box["y"] + 5)
    page.mouse.down()
    shows(page, clip="none")
    page.mouse.up()
    until(page, lambda: state(page)["clip"] != "none")
    hold.focus()
    for key in ("Space", "o"):
        page.keyboard.down(key)
        until(page, "viewer.original")
        page.keyboard.up(key)
        until(page, "!viewer.original")


def test_larger_versions_come_when_needed(show: Show) -> None:
    asked: list[str] = []
    page = show(before="100x80.png", after="400x320.png")
    page.on("request", lambda request: asked.append(urlsplit(request.url).path[1:]))
    pair(page, before="50x40.png", after="200x160.png", after_full="800x640.png", width="800", height="640")
    until(page, "viewer.shadowRoot.querySelector('#after img').naturalWidth === 800")
    assert asked == ["50x40.png", "200x160.png", "800x640.png"]  # 560 pixels are shown, 200 were there
    assert state(page)["zoom"] == pytest.approx(0.7)
    asked.clear()
    pair(page, before="60x48.png", after="640x512.png", after_full="full-800x640.png")
    drawn(page)
    page.evaluate("fetch('marker-16x16.png')")  # what the page asked for before it is known when this is
    until(page, lambda: "marker-16x16.png" in asked)
    assert asked == ["60x48.png", "640x512.png", "marker-16x16.png"]
    page.keyboard.press("Tab")
    page.keyboard.press("1")
    until(page, "viewer.shadowRoot.querySelector('#after img').naturalWidth === 800")
    shows(page, zoom=1)


def test_another_pair_is_fitted_and_keeps_the_divider(show: Show) -> None:
    page = show(before="100x80.png", after="400x320.png")
    page.evaluate("viewer.value = 30; viewer.zoom = 4")
    pair(page, before="40x100.png", after="400x1000.png")
    seen = state(page)
    assert (seen["value"], seen["fitted"], seen["zoom"]) == (30, True, pytest.approx(0.448))
    failed = page.evaluate(
        "new Promise((done) => { viewer.addEventListener('failed', (e) => done(e.detail.which)); "
        "viewer.after = 'missing.png'; })"
    )
    assert failed == "after"
    until(page, "!viewer.shadowRoot.querySelector('.loading')")
    expect(page.get_by_text("The picture “After” cannot be shown here.")).to_be_visible()
    seen = state(page)
    assert (seen["after"], seen["before"]["height"]) == (None, 100)
    expect(page.get_by_role("slider")).to_have_count(0)  # nothing to divide


def test_on_a_page_that_scrolls(show: Show) -> None:
    page = show(before="100x80.png", after="400x320.png", inline="")
    page.mouse.move(400, 200)
    page.mouse.wheel(0, 30)
    until(page, "scrollY === 30")
    assert state(page)["fitted"]
    page.keyboard.down("Control")
    page.mouse.wheel(0, -60)
    page.keyboard.up("Control")
    until(page, "!viewer.fitted")


def test_accessibility(show: Show) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    page = show(before="100x80.png", after="400x320.png")
    found = axe.run(page)
    assert found.violations_count == 0, found.generate_report()
    expect(page.get_by_role("img", name="After: noise")).to_have_count(1)
