"""The page with the keyboard only."""

from __future__ import annotations

from tests.chromium import expect, until
from tests.serving.in_browser import Open, file


def test_the_button_to_begin_has_the_focus_once_there_are_pictures(open_page: Open) -> None:
    """The button that chose them is hidden then: the focus would be at the top, a row for each picture away."""
    shown = open_page()
    with shown.page.expect_file_chooser() as chooser:
        # Playwright asks Chromium for choosers without waiting: the answers to the next two calls come after that one.
        shown.page.get_by_role("button", name="Choose photographs").focus()
        until(shown.page, "document.hasFocus() && document.activeElement.matches('[data-choose]')")
        shown.page.keyboard.press("Enter")
    chooser.value.set_files([file("boat.png"), file("house.png")])  # type: ignore[arg-type]
    expect(shown.page.locator("#start")).to_be_focused()
    shown.page.keyboard.press("Enter")
    shown.wait("done", 2)
