"""Signals for child processes of tests."""

from __future__ import annotations

import signal


def as_in_a_terminal() -> None:
    """Restore the signals that a shell ignores for jobs in the background, or nohup; for ``preexec_fn``."""
    for name in ("SIGINT", "SIGHUP", "SIGTERM"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_DFL)
