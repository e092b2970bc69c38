"""Reaching the hub at most once: its client retries every file for half a minute on a machine without a network."""

from __future__ import annotations

import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache

from huggingface_hub import constants

_SECONDS = 10.0  # time to wait for the hub's first answer


@contextmanager
def hub_offline() -> Iterator[None]:
    """Let the hub's client use its cache only; a file that is not there raises ``LocalEntryNotFoundError``."""
    before, constants.HF_HUB_OFFLINE = constants.HF_HUB_OFFLINE, True
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = before


def require_hub() -> None:
    """Check that files can be downloaded from the hub. The hub is asked once per process.

    Raises:
        OSError: It cannot be reached, or ``HF_HUB_OFFLINE`` forbids it.
    """
    if constants.HF_HUB_OFFLINE:
        raise OSError("HF_HUB_OFFLINE is set")
    if problem := _problem():
        raise OSError(problem)


@lru_cache(maxsize=1)
def _problem() -> str:
    """Why the hub cannot be reached; empty if it can."""
    try:
        urllib.request.urlopen(urllib.request.Request(constants.ENDPOINT, method="HEAD"), timeout=_SECONDS).close()
    except urllib.error.HTTPError:
        return ""  # it answers
    except (OSError, ValueError) as error:
        return f"{constants.ENDPOINT} cannot be reached: {error}"
    return ""
