"""The page in a real browser: a new load of the page, and a server that goes and comes back."""

from __future__ import annotations

import threading
from contextlib import ExitStack
from typing import Any

from tests.chromium import expect
from tests.serving.in_browser import DESK, Open, Page, file, serving
from tests.serving.pipes import RepeatingPipe


def test_a_new_load_keeps_the_jobs(open_page: Open) -> None:
    shown = open_page()
    shown.pipe.hold()
    shown.add(file("boat.png"), file("house.png"))
    shown.start()
    shown.wait("running")
    shown.wait("queued")
    asked: list[str] = []
    shown.page.on("dialog", lambda dialog: (asked.append(dialog.type), dialog.accept()))
    shown.page.reload()
    assert asked == ["beforeunload"]
    shown.wait("running")
    shown.wait("queued")
    expect(shown.page.locator(".name")).to_have_text(["boat.png", "house.png"])
    shown.pipe.release()
    shown.wait("done", 2)
    shown.page.reload()
    shown.wait("done", 2)
    assert asked == ["beforeunload"]


def test_the_server_goes_and_comes_back(open_page: Open, browser: Any) -> None:
    pipe = RepeatingPipe()
    with ExitStack() as stack:
        first = stack.enter_context(ExitStack())
        port = first.enter_context(serving(pipe))
        context = stack.enter_context(browser.new_context(**DESK))
        shown = Page(context.new_page(), port, pipe)
        shown.page.goto(shown.url)
        expect(shown.page.locator("#model")).to_have_text("mini")
        pipe.hold()
        stack.callback(pipe.release)
        shown.add(file("boat.png"), file("house.png"))
        shown.start()
        shown.wait("running")
        shown.wait("queued")
        threading.Timer(0.3, pipe.release).start()  # a picture in work is waited for
        first.close()
        shown.page.get_by_text("The server does not answer.").wait_for()
        stack.enter_context(serving(RepeatingPipe(), port))
        shown.wait("done")
        shown.wait("ready")  # this one's result ended with the first server
