"""The study page in a real browser: choosing, confirming, zooming and resuming, on desktop and phone."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.chromium import drawn, expect, until
from tests.study.conftest import STEMS
from tsdsr.study.definition import VOTES
from tsdsr.study.votes import Vote, read_votes

DESK: dict[str, Any] = {"viewport": {"width": 1280, "height": 800}}
PHONE: dict[str, Any] = {"viewport": {"width": 360, "height": 740}, "has_touch": True, "is_mobile": True}

REDDEST = """() => {
  const reds = [...document.querySelectorAll(".candidate img")].map((picture) => {
    const canvas = new OffscreenCanvas(1, 1).getContext("2d");
    canvas.drawImage(picture, 0, 0, 1, 1);
    return canvas.getImageData(0, 0, 1, 1).data[0];
  });
  return reds.indexOf(Math.max(...reds));
}"""

Open = Callable[..., Any]


@pytest.fixture
def opened(browser: Any, port: int) -> Iterator[Open]:
    """Open the study as a voter and begin; any error on the page fails the test, unless it is expected."""
    errors: list[str] = []
    contexts = []

    def open_study(options: dict[str, Any], expected: str = "nothing") -> Any:
        context = browser.new_context(**options)
        contexts.append(context)
        page = context.new_page()
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.on(
            "console",
            lambda message: (
                errors.append(message.text) if message.type == "error" and expected not in message.text else None
            ),
        )
        page.goto(f"http://127.0.0.1:{port}/")
        page.click("#begin")
        page.wait_for_selector("#trial:not([hidden])")
        return page

    yield open_study
    for context in contexts:
        context.close()
    assert errors == []


@pytest.fixture
def votes(tmp_path: Path) -> Callable[[], list[Vote]]:
    return lambda: read_votes(tmp_path / "study" / VOTES)


def confirm(page: Any, by: Callable[[], None]) -> None:
    """Confirm with ``by`` and wait until the next trial, or the end, is shown."""
    before = page.get_attribute("#pictures", "data-trial")
    by()
    page.wait_for_function(
        "before => !byId('done').hidden || byId('pictures').dataset.trial !== before",
        arg=before,
    )


def transforms(page: Any) -> list[str]:
    found: list[str] = page.evaluate(
        "[...document.querySelectorAll('.frame img')].map((i) => getComputedStyle(i).transform)"
    )
    return found


def scale(page: Any) -> float:
    """The scale that all pictures share."""
    (matrix,) = set(transforms(page))
    return float(matrix.removeprefix("matrix(").split(",")[0]) if matrix != "none" else 1.0


def scaled(page: Any, wanted: Any) -> None:
    """Wait until all pictures have the scale given."""
    until(page, lambda: scale(page) == wanted)


def test_what_is_seen_is_what_is_recorded(opened: Open, votes: Callable[[], list[Vote]]) -> None:
    page = opened(DESK)
    for k in range(len(STEMS)):
        expect(page.locator("#count")).to_have_text(f"{k + 1} of {len(STEMS)}")
        expect(page.locator("#confirm")).to_be_disabled()
        page.keyboard.press(str(page.evaluate(REDDEST) + 1))
        confirm(page, lambda: page.keyboard.press("Enter"))
    expect(page.locator("#done")).to_be_visible()
    assert [vote.choice for vote in votes()] == ["alpha"] * len(STEMS)
    page.reload()
    page.wait_for_selector("#done:not([hidden])")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_on_a_phone(opened: Open, votes: Callable[[], list[Vote]], scheme: str) -> None:
    page = opened({**PHONE, "color_scheme": scheme})
    assert page.evaluate("document.documentElement.scrollWidth") == 360
    cards = page.locator(".picture")
    assert cards.count() == 5
    footer = page.locator("#trial footer").bounding_box()["y"]
    boxes = [cards.nth(k).bounding_box() for k in range(5)]
    assert all(box["width"] > 140 and box["y"] + box["height"] <= footer for box in boxes)  # all in view
    page.locator(".candidate .frame").nth(1).tap()
    expect(page.locator("#confirm")).to_have_text("Confirm 2")
    page.locator(".candidate .frame").nth(2).tap()  # a slip is put right
    expect(page.locator(".candidate input:checked")).to_have_value("2")
    page.evaluate("ask('api/session')")  # a vote would have been under way before
    assert votes() == []
    confirm(page, page.locator("#confirm").tap)
    assert [vote.position for vote in votes()] == [3]
    trial = page.get_attribute("#pictures", "data-trial")
    page.reload()
    page.wait_for_selector("#trial:not([hidden])")
    expect(page.locator("#count")).to_have_text("2 of 4")
    expect(page.locator("#pictures")).to_have_attribute("data-trial", trial)


def test_all_pictures_are_enlarged_at_one_place(opened: Open) -> None:
    page = opened(DESK)
    frame = page.locator(".candidate .frame").nth(1)
    box = frame.bounding_box()
    x, y = box["x"] + 0.25 * box["width"], box["y"] + 0.75 * box["height"]

    def looked_at() -> tuple[float, float]:
        """What lies under (x, y), as shares of the picture."""
        inside = frame.locator("img").bounding_box()
        return (x - inside["x"]) / inside["width"], (y - inside["y"]) / inside["height"]

    page.mouse.move(x, y)
    page.mouse.wheel(0, -500)
    page.wait_for_selector("#pictures.enlarged")
    until(page, lambda: scale(page) > 2)
    assert looked_at() == pytest.approx((0.25, 0.75), abs=0.01)
    page.mouse.down()
    page.mouse.move(x + 0.2 * box["width"], y, steps=4)
    page.mouse.up()
    until(page, lambda: looked_at()[0] == pytest.approx(0.25 - 0.2 / scale(page), abs=0.01))
    drawn(page)
    assert page.locator("input:checked").count() == 0  # a drag chooses nothing
    page.mouse.click(x, y)
    expect(page.locator("input:checked")).to_have_value("1")
    page.keyboard.press("0")
    scaled(page, 1)
    page.click("#larger")
    page.click("#larger")
    scaled(page, pytest.approx(2))
    expect(page.locator("#factor")).to_have_text("2\u00d7")
    page.keyboard.press("-")
    page.keyboard.press("-")
    expect(page.locator("#smaller")).to_be_disabled()


def test_pinching(opened: Open) -> None:
    page = opened(PHONE)
    box = page.locator(".given .frame").nth(1).bounding_box()
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    touch = page.context.new_cdp_session(page)

    def fingers(kind: str, apart: float | None) -> None:
        points = [] if apart is None else [{"x": x + side * apart, "y": y, "id": k} for k, side in enumerate((-1, 1))]
        touch.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})

    fingers("touchStart", 20)
    for apart in (25, 30, 35, 40):
        fingers("touchMove", apart)
    fingers("touchEnd", None)
    scaled(page, pytest.approx(2, rel=0.1))
    assert page.evaluate("visualViewport.scale") == 1  # the pictures were enlarged, not the page


def test_keys_and_roles(opened: Open) -> None:
    page = opened(DESK)
    expect(page.get_by_role("radiogroup")).to_have_count(1)
    radios = page.get_by_role("radio")
    assert [radios.nth(k).get_attribute("aria-label") for k in range(3)] == [f"Restoration {k}" for k in (1, 2, 3)]
    assert page.get_by_role("img", name="Original").count() == 1
    assert page.get_by_role("progressbar", name="Answered pages").count() == 1
    for key, expected in (("ArrowRight", 0), ("ArrowRight", 1), ("ArrowDown", 2), ("ArrowRight", 0), ("ArrowUp", 2)):
        page.keyboard.press(key)
        expect(page.locator("input:checked")).to_have_value(str(expected))
    page.keyboard.press("4")  # there are three
    page.keyboard.press("+")
    page.keyboard.press("Shift+ArrowRight")
    until(page, lambda: scale(page) > 1)
    drawn(page)
    assert page.inner_text("#confirm") == "Confirm 3"


def test_the_next_pictures_are_there_already(opened: Open) -> None:
    page = opened(DESK)
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url) if "/pictures/" in request.url else None)
    page.wait_for_function("loaded.size === 2 && Promise.all(loaded.values()).then(() => true)")
    asked.clear()
    page.keyboard.press("1")
    confirm(page, lambda: page.click("#confirm"))
    shown = page.evaluate("[session.trials[0].input, session.trials[0].reference, ...session.trials[0].candidates]")
    assert not [url for url in asked if url.rsplit("/", 1)[1] in shown]


def test_two_tabs_have_one_vote(opened: Open, votes: Callable[[], list[Vote]]) -> None:
    page = opened(DESK, expected="409")
    second = page.context.new_page()
    second.goto(page.url)
    second.wait_for_selector("#trial:not([hidden])")
    page.keyboard.press("1")
    confirm(page, lambda: page.click("#confirm"))
    second.keyboard.press("2")
    confirm(second, lambda: second.click("#confirm"))
    expect(second.locator("#count")).to_have_text("2 of 4")
    assert [vote.position for vote in votes()] == [1]


def test_a_lost_connection_loses_no_choice(opened: Open, votes: Callable[[], list[Vote]]) -> None:
    page = opened(DESK, expected="ERR_FAILED")
    page.route("**/api/vote", lambda route: route.abort())
    page.keyboard.press("2")
    page.click("#confirm")
    page.wait_for_selector("#problem:not([hidden])")
    expect(page.locator("#problem")).to_contain_text("could not be stored")
    assert votes() == []
    page.unroute("**/api/vote")
    confirm(page, lambda: page.click("#confirm"))
    assert [vote.position for vote in votes()] == [2]
    expect(page.locator("#problem")).to_be_hidden()


def test_pictures_that_do_not_come_cannot_be_voted_on(opened: Open, votes: Callable[[], list[Vote]]) -> None:
    page = opened(DESK, expected="ERR_FAILED")
    page.wait_for_function("loaded.size === 2 && Promise.all(loaded.values()).then(() => true)")
    page.route("**/pictures/**", lambda route: route.abort())
    page.keyboard.press("1")
    confirm(page, lambda: page.click("#confirm"))  # the second's pictures are there already, the third's are not
    page.keyboard.press("1")
    page.click("#confirm")
    page.wait_for_selector("#problem:not([hidden])")
    page.keyboard.press("2")
    page.keyboard.press("Enter")
    page.evaluate("ask('api/session')")  # a vote would have been under way before
    assert page.is_disabled("#confirm")
    assert len(votes()) == 2
    page.unroute("**/pictures/**")
    page.reload()
    page.wait_for_selector("#trial:not([hidden])")
    expect(page.locator("#count")).to_have_text("3 of 4")


def test_enter_begins(browser: Any, port: int) -> None:
    page = browser.new_context(**DESK).new_page()
    page.goto(f"http://127.0.0.1:{port}/")
    page.wait_for_selector("#intro:not([hidden])")
    page.keyboard.press("Enter")
    page.wait_for_selector("#trial:not([hidden])")
    drawn(page)
    assert page.locator("#confirm").is_disabled()  # the same key has not voted
    page.context.close()
