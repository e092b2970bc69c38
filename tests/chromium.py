"""The browser that tests of pages share, and how they wait for what a page does."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator
from importlib import import_module
from typing import Any

import pytest

PATIENCE = 30  # seconds, as Playwright's own: on a busy machine a page may be late, and what is there is not waited for


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """Headless Chromium under Playwright."""
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    path = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if path is None:
        pytest.skip("no Chromium on this machine: apt install chromium")
    with sync_api.sync_playwright() as playwright:
        sync_api.expect.set_options(timeout=1000 * PATIENCE)
        chromium = playwright.chromium.launch(executable_path=path, args=["--no-sandbox", "--disable-gpu"])
        yield chromium
        chromium.close()


def expect(subject: Any) -> Any:
    """Playwright's assertions on a page or on a locator: each is tried again until it holds."""
    return import_module("playwright.sync_api").expect(subject)  # not above: most tests run without Playwright


def until(page: Any, condition: str | Callable[[], object]) -> None:
    """Wait for an expression of the page, or for what a function returns, to be true; looks more often than ``expect``.

    Playwright's own ``wait_for_function`` needs ``eval``, which the policy of a page may forbid.
    """
    deadline = time.monotonic() + PATIENCE
    while not (condition() if callable(condition) else page.evaluate(condition)):
        assert time.monotonic() < deadline, f"waited in vain for {condition}"
        page.wait_for_timeout(20)


def drawn(page: Any) -> None:
    """Wait until the page has drawn what it was about to: before an assertion that something did not happen."""
    page.evaluate("new Promise((resolve) => requestAnimationFrame(() => requestAnimationFrame(resolve)))")
