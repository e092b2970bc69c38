"""What tsdsr logged in a test. Other libraries log at any time, from threads of earlier tests too."""

from __future__ import annotations

import logging

import pytest


def own_records(caplog: pytest.LogCaptureFixture) -> list[logging.LogRecord]:
    """The records of tsdsr's loggers so far."""
    return [record for record in caplog.records if record.name.split(".")[0] == "tsdsr"]
