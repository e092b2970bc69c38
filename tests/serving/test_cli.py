"""``tsdsr serve``: mistakes in its arguments are found before a model is loaded."""

from __future__ import annotations

import pytest

from tests.cli.command import run
from tsdsr.cli.serve import parse_size


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("--max-upload much", "--max-upload takes a size, such as 200MB or 4GB, got 'much'"),
        ("--max-disk 0", "--max-disk takes a size"),
        ("--token short", "the token must have at least 16 ASCII characters"),
        ("--timeout nan", "timeout must be a finite number"),
        ("--host 203.0.113.7 --token correct-horse-battery", "cannot listen on 203.0.113.7, port 8787"),
        ("--model nowhere --port 0", "nowhere"),
    ],
)
def test_mistakes_end_the_command(arguments: str, message: str) -> None:
    code, output = run("serve", *arguments.split())
    assert code == 2
    assert message in output
    assert "Traceback" not in output


def test_a_server_without_a_token_in_a_network_says_so_loudly() -> None:
    code, output = run("serve", "--host", "203.0.113.7")
    assert code == 2
    assert output.startswith("WARNING: everyone who reaches 203.0.113.7 can use this server")


def test_sizes() -> None:
    assert [parse_size("--x", text) for text in ("1", "5B", "2kB", "1.5MB", "4 GB", "4gb".upper())] == [
        1, 5, 2000, 1_500_000, 4 * 10**9, 4 * 10**9,
    ]  # fmt: skip
