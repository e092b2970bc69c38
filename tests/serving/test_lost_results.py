"""The page, and results that the server no longer has: it was started anew, or needed the room."""

from __future__ import annotations

import io
import zipfile
from contextlib import ExitStack
from typing import Any

from tests.chromium import drawn, expect, until
from tests.serving.in_browser import DESK, Open, Page, encoded, file, photo, serving
from tests.serving.pipes import RepeatingPipe


def test_results_that_the_server_lost_can_be_made_once_more(browser: Any) -> None:
    with ExitStack() as stack:
        first = stack.enter_context(ExitStack())
        port = first.enter_context(serving(RepeatingPipe()))
        shown = Page(stack.enter_context(browser.new_context(**DESK)).new_page(), port, None)
        saved: list[str] = []
        missing: list[str] = []
        shown.page.on("download", lambda download: saved.append(download.url))
        shown.page.on("response", lambda answer: missing.append(answer.url) if answer.status == 404 else None)
        shown.page.goto(shown.url)
        shown.add(file("boat.png"), file("house.png"))
        shown.start()
        shown.wait("done", 2)
        first.close()
        second = stack.enter_context(ExitStack())
        second.enter_context(serving(RepeatingPipe(), port))
        shown.page.click("#zip")  # nothing is saved: an archive of nothing, or an error, would be
        shown.wait("ready", 2)
        expect(shown.page.locator(".status")).to_have_text(["The server no longer keeps this result."] * 2)
        missing.clear()
        shown.page.click("text=Enlarge 2 pictures")
        shown.wait("done", 2)
        second.close()
        shown.page.locator(".compare").first.click()
        shown.page.get_by_text("The server does not answer.").wait_for()
        stack.enter_context(serving(RepeatingPipe(), port))
        shown.wait("ready", 2)
        expect(shown.page.locator("#connection")).to_be_hidden()
        until(shown.page, lambda: len(missing) >= 3)  # both results are looked for, and the one to compare once more
        drawn(shown.page)
        assert shown.page.is_hidden("#viewer")
        assert saved == []


def test_results_that_made_room_are_missing_from_the_zip(open_page: Open) -> None:
    shown = open_page(max_disk_bytes=180_000)  # two results of 77 kB
    content = encoded(photo(40, 40), "BMP")
    for number in range(3):
        shown.add(file(f"{number}.bmp", content, "image/bmp"))
        shown.start()
        shown.wait("done", number + 1)
    assert [job["output"] is None for job in shown.jobs()] == [True, False, False]
    name, archived = shown.downloaded("#zip")
    assert name == "results.zip"
    assert zipfile.ZipFile(io.BytesIO(archived)).namelist() == ["1.bmp", "2.bmp"]
    shown.wait("ready")
    shown.page.reload()
    shown.wait("done", 2)
