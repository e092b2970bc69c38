"""Addresses of web servers."""

from __future__ import annotations

import socket

import pytest

from tsdsr.web import shown_address


@pytest.mark.parametrize(
    ("host", "shown"),
    [
        ("127.0.0.1", "127.0.0.1"),
        ("nas.local", "nas.local"),
        ("::1", "[::1]"),
        ("0.0.0.0", "127.0.0.1"),
        ("::", "[::1]"),
    ],
)
def test_the_shown_address_can_be_opened(host: str, shown: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        assert shown_address(host, listener) == f"http://{shown}:{listener.getsockname()[1]}/"
