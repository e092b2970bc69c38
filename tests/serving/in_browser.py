"""What tests of pages have in common."""

from __future__ import annotations

import time
from typing import Any


def until(page: Any, condition: str) -> None:
    """Wait for a condition; Playwright's own ``wait_for_function`` needs ``eval``, which the policy forbids."""
    deadline = time.monotonic() + 10
    while not page.evaluate(condition):
        assert time.monotonic() < deadline, f"waited in vain for {condition}"
        page.wait_for_timeout(20)
