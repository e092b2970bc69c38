# ruff: noqa: RUF001 - the page writes sizes with a multiplication sign
"""The page in a real browser, against a real server: from the drop to the download, and what goes wrong."""

from __future__ import annotations

import io
import json
import re
import time
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import tsdsr
from tests.chromium import drawn, expect, until
from tests.serving.in_browser import (
    DESK,
    PHONE,
    Open,
    axe_violations,
    carry,
    encoded,
    file,
    photo,
)
from tests.serving.pipes import RepeatingPipe

SHOWN = "comparison.shadowRoot.querySelectorAll('.layer img').length === 2"
LOADED = "!comparison.shadowRoot.querySelector('.loading')"
TOKEN = "a token that is long enough"


def test_from_the_drop_to_the_download(open_page: Open) -> None:
    mini = tsdsr.load_pipeline("mini")
    shown = open_page(mini)
    page = shown.page
    image = photo()
    carry(page, "dragenter", [file("boat.png")])
    expect(page.locator("#drop")).to_be_visible()
    carry(page, "drop", [file("boat.png", encoded(image))])
    expect(page.locator("#drop")).to_be_hidden()
    shown.wait("ready")
    expect(page.locator(".sizes")).to_have_text("24 × 16 → 96 × 64")
    shown.start()
    shown.wait("done")
    expect(page.locator(".sizes")).to_have_text(re.compile("^24 × 16 → 96 × 64 · PNG, "))
    expect(page.locator("#announcer")).to_have_text("boat.png is finished.")
    name, content = shown.downloaded("#pictures .download")
    assert name == "boat.png"
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(content))), mini.upscale_pixels(np.asarray(image), 4))


def test_pasted_and_from_a_folder(open_page: Open, tmp_path: Path) -> None:
    (tmp_path / "scans" / "old").mkdir(parents=True)
    for name in ("one.png", "old/two.jpg", "notes.txt", ".hidden.png"):
        (tmp_path / "scans" / name).write_bytes(encoded(photo()))
    shown = open_page()
    carry(shown.page, "paste", [file("image.png")])
    shown.wait("ready")
    shown.page.set_input_files("#folder", tmp_path / "scans")
    shown.wait("ready", 3)
    assert sorted(shown.page.locator(".name").all_inner_texts()) == ["image.png", "one.png", "two.jpg"]


def test_progress_and_cancelling(open_page: Open) -> None:
    shown = open_page(RepeatingPipe(tiles=4))
    shown.pipe.hold()
    shown.add(*(file(f"{number}.png") for number in range(4)))
    shown.start()
    shown.wait("running")
    shown.wait("queued", 3)
    page = shown.page
    page.get_by_text("Waiting, 2 ahead").wait_for()  # two are sent at a time: which it is depends
    expect(page).to_have_title(re.compile("^0/4 · "))
    page.get_by_role("button", name="Cancel: 2.png").click()
    shown.wait("cancelled")
    expect(page.locator("#sum")).to_have_text("0 of 3 finished")
    shown.pipe.release()
    shown.wait("done", 3)
    assert shown.pipe.finished_tiles == 12
    shown.pipe.hold()
    page.get_by_role("button", name="Redo with the current settings: 2.png").click()
    shown.wait("running")
    page.click("#cancel-all")
    shown.wait("cancelled")
    shown.pipe.release()
    page.get_by_role("button", name="Remove: 2.png").click()
    expect(shown.rows()).to_have_count(3)
    expect(page.get_by_role("button", name="Remove: 3.png")).to_be_focused()  # the focus is not lost


def test_tiles_are_shown(open_page: Open) -> None:
    shown = open_page(RepeatingPipe(tiles=5))
    shown.pipe.hold()
    shown.add(file("boat.png"))
    shown.start()
    shown.wait("running")
    for number in range(2, 6):
        shown.pipe.release_tile()
        expect(shown.page.locator(".status")).to_have_text(re.compile(rf"^Tile {number} of 5 · .+ left$"))
    shown.pipe.release_tile()
    shown.wait("done")


def test_errors_are_shown_at_their_picture(open_page: Open) -> None:
    shown = open_page(max_upload_bytes=4000, max_pixels=2000)
    broken = file("broken.png", encoded(photo())[:300])
    shown.add(broken, file("good.png"), file("empty.png", b""), file("long.png", encoded(photo(40, 40))))
    shown.add(file("wide.png", encoded(Image.new("RGB", (100, 30)))))
    shown.row("wide.png").get_by_text("100 × 30 → 400 × 120").wait_for()
    shown.start()
    shown.wait("failed", 4)
    shown.wait("done")
    said = {name: shown.row(name).locator(".status").inner_text() for name in ("broken.png", "empty.png", "long.png")}
    assert said["broken.png"].startswith("The file is truncated")
    assert said["empty.png"] == "The file is empty."
    assert said["long.png"] == "The file has 5 kB; this server takes up to 4 kB."
    assert "megapixels" in shown.row("wide.png").locator(".status").inner_text()
    assert [job["name"] for job in shown.jobs()] == ["broken.png", "good.png"]  # the others were not sent


def test_a_full_queue_loses_nothing(open_page: Open) -> None:
    shown = open_page(expected="429", queue_size=1)
    shown.pipe.hold()
    other = json.loads(shown.ask("/v1/jobs", "POST", encoded(photo()), **{"Content-Type": "image/png"}))
    shown.pipe.wait_for_work()
    shown.ask("/v1/jobs", "POST", encoded(photo()), **{"Content-Type": "image/png"})
    shown.add(file("boat.png"), file("house.png"))
    shown.start()
    expect(shown.page.locator(".status").first).to_contain_text("queue is full")
    shown.wait("waiting", 2)  # but for the moments when the first is sent again
    shown.pipe.release()
    shown.wait("done", 2)
    assert json.loads(shown.ask(f"/v1/jobs/{other['id']}"))["state"] == "done"


def test_settings_are_used_and_remembered(open_page: Open) -> None:
    shown = open_page()
    page = shown.page
    shown.add(file("boat.png"))
    page.fill("#scale", "2,5")
    page.keyboard.press("Tab")
    expect(page.locator(".sizes")).to_have_text("24 × 16 → 60 × 40")
    page.get_by_role("radio", name="×2").check()
    expect(page.locator(".sizes")).to_have_text("24 × 16 → 48 × 32")
    page.locator("#detail").fill("30")
    expect(page.locator("#detail-words")).to_contain_text("plausible, but not in your photograph")
    page.click("#more summary")
    page.select_option("#format", "jpg")
    page.get_by_label("Quality", exact=True).first.check()
    page.locator("#quality").fill("70")
    page.select_option("[name=color_fix]", "adain")
    shown.start()
    shown.wait("done")
    page.reload()
    shown.wait("done")
    shown.add(file("house.png"))
    shown.start()
    shown.wait("done", 2)
    for job in shown.jobs():
        options = job["options"]
        assert (options["scale"], options["detail"], options["color_fix"]) == (2, 0.3, "adain")
        assert (options["format"], options["quality"]) == ("jpg", 70)
        assert (job["output"]["width"], job["output"]["format"]) == (48, "jpg")
    shown.add(file("tree.png"))
    expect(page.locator("#start")).to_be_enabled()
    page.get_by_role("radio", name="Target size").check()
    expect(page.locator("#start")).to_be_disabled()
    page.fill("#width", "50")
    page.fill("#height", "50")
    page.select_option("[name=fit]", "cover")
    expect(shown.row("tree.png").locator(".sizes")).to_have_text("24 × 16 → 50 × 50")
    shown.start()
    shown.wait("done", 3)
    assert shown.jobs()[-1]["output"]["height"] == 50


def test_the_viewer(open_page: Open) -> None:
    shown = open_page()
    page = shown.page
    tiff = file("scan.tif", encoded(photo(30, 20), "TIFF"), "image/tiff")
    shown.add(file("boat.png", encoded(photo(600, 500))), tiff)
    shown.start()
    shown.wait("done", 2)
    page.get_by_role("button", name="Compare before and after: boat.png").last.click()
    until(page, SHOWN)
    until(page, LOADED)
    expect(page.get_by_text("After · 2400 × 2000")).to_be_visible()
    assert page.evaluate("comparison.fitted")
    slider = page.get_by_role("slider", name="Divider between Before · 600 × 500 and After · 2400 × 2000")
    slider.focus()
    page.keyboard.press("ArrowLeft")
    until(page, "comparison.value === 49")  # and the picture is the same
    page.mouse.move(640, 400)
    page.mouse.wheel(0, -1200)
    until(page, "comparison.zoom > 2")
    whole = "comparison.shadowRoot.querySelector('#after img').naturalWidth === 2400"
    until(page, whole)  # the preview has 2048
    page.get_by_role("button", name="Next picture").click()
    expect(page.locator("#viewer-name")).to_have_text("scan.tif")
    until(page, "comparison.shadowRoot.querySelector('#after img').naturalWidth === 120")
    assert page.evaluate("comparison.fitted")
    page.locator("#viewer-name").focus()
    page.keyboard.press("ArrowLeft")
    expect(page.locator("#viewer-place")).to_have_text("1 of 2")
    _, content = shown.downloaded("#viewer-download")
    assert Image.open(io.BytesIO(content)).size == (2400, 2000)
    page.keyboard.press("Escape")
    expect(page.locator("#viewer")).to_be_hidden()
    until(page, "document.activeElement.className === 'thumbnail'")


def test_all_as_zip(open_page: Open) -> None:
    shown = open_page()
    shown.add(
        file("boat.png"),
        file("boat.png", encoded(photo(8, 8))),
        file("a b.jpg", encoded(photo(), "JPEG"), "image/jpeg"),
    )
    shown.start()
    shown.wait("done", 3)
    _, content = shown.downloaded("#zip")
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        assert archive.testzip() is None
        assert len(set(archive.namelist())) == 3
    shown.page.click("#clear")
    expect(shown.rows()).to_have_count(0)
    expect(shown.page.locator("#intro-title")).to_be_visible()


def test_a_token_is_asked_for(open_page: Open) -> None:
    shown = open_page(expected="401", token=TOKEN)
    page = shown.page
    page.wait_for_selector("#entry[open]")
    page.keyboard.press("Escape")
    drawn(page)
    assert page.is_visible("#entry")
    page.keyboard.type("wrong")
    page.keyboard.press("Enter")
    page.get_by_text("That is not this server's token.").wait_for()
    assert axe_violations(page) == []
    page.keyboard.type(TOKEN)
    page.keyboard.press("Enter")
    expect(page.locator("#model")).to_have_text("mini")
    expect(page.locator("#entry")).to_be_hidden()
    shown.add(file("boat.png"))
    shown.start()
    shown.wait("done")
    assert shown.downloaded("#pictures .download")[1]
    page.reload()
    shown.wait("done")  # the session goes on


@pytest.mark.parametrize("kind", ["desk", "phone"])
def test_accessible_and_narrow_in_every_state(open_page: Open, kind: str) -> None:
    """Light on a desk, dark on a phone of 360 pixels."""
    options = {**DESK, "color_scheme": "light"} if kind == "desk" else {**PHONE, "color_scheme": "dark"}
    shown = open_page(context={**options, "reduced_motion": "reduce"})
    page = shown.page

    def check(state: str) -> None:
        assert axe_violations(page) == [], state
        width = options["viewport"]["width"]
        assert page.evaluate("document.documentElement.scrollWidth") <= width, state

    check("empty")
    shown.pipe.hold()
    names = ["صورة قديمة.png", "a very long name " * 8 + ".png", "boat.png"]
    shown.add(*(file(name) for name in names), file("broken.png", encoded(photo())[:300]))
    if kind == "phone":
        page.click("#fold")
    page.click("#more summary")
    check("settings open")
    page.click("#start")
    shown.wait("running")
    check("working")
    shown.pipe.release()
    shown.wait("done", 3)
    shown.wait("failed")
    check("done")
    shown.row("boat.png").locator(".compare").click()
    until(page, SHOWN)  # before it is opened, nothing is loading either
    until(page, LOADED)
    check("viewer")


def test_two_hundred_pictures(open_page: Open) -> None:
    shown = open_page()
    content = encoded(photo(4, 4))
    begun = time.perf_counter()
    shown.add(*(file(f"{number}.png", content) for number in range(200)))
    until(shown.page, "document.querySelectorAll('.thumbnail img:not([hidden])').length === 200")
    assert time.perf_counter() - begun < 10
    took, last = shown.page.evaluate(
        """() => new Promise((resolve) => {
          const begun = performance.now();
          scale.value = "3";
          scale.dispatchEvent(new Event("change"));
          const last = [...document.querySelectorAll(".sizes")].at(-1);
          const seen = () => resolve([performance.now() - begun, last.textContent]);
          requestAnimationFrame(() => requestAnimationFrame(seen));
        })"""
    )
    assert last.endswith("12 × 12")
    assert took < 500  # milliseconds until all rows show the new size
