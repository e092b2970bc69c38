"""Run the command in the process of the test."""

from __future__ import annotations

from typer.testing import CliRunner

from tsdsr.cli import app

runner = CliRunner()


def run(*args: object) -> tuple[int, str]:
    """Return the exit status and everything printed; an exception that ends the command is raised."""
    result = runner.invoke(app, [str(a) for a in args])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.output
