"""A reader who types the steps of a page, one after the other."""

from __future__ import annotations

import contextlib
import io
import os
import re
import shlex
import sys
import traceback
from contextlib import ExitStack
from itertools import pairwise
from pathlib import Path
from typing import Any
from unittest import mock

import fsspec
import pytest
from typer.testing import CliRunner

from tests.child_processes import finished
from tests.docs import replacements
from tests.docs.installation import check_installation
from tests.docs.pages import ROOT
from tests.docs.servers import COMMAND, Servers
from tests.docs.short_recipes import recipes_for
from tests.docs.shown_output import missing_lines
from tests.docs.steps import Step
from tests.pipeline.hub_server import hub_in_use
from tsdsr.cli import app
from tsdsr.pipeline.model_files import resolve_model

WITHOUT_SHELL = re.compile(r"[\w./:@%+=,~-]+|'[^']*'|\"[^\"$`\\]*\"|\s+")
"""What a command consists of that needs no shell. Braces, patterns, pipes and variables do."""


class Reader:
    """Types commands in a folder: environment and folder of the shell, and running servers, last for a page.

    Args:
        folder (Path): the reader's folder.
        monkeypatch (MonkeyPatch): undoes what steps change in this process.
        stack (ExitStack): ends what runs in the background.
    """

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch, stack: ExitStack) -> None:
        self.folder, self.monkeypatch, self._stack = folder, monkeypatch, stack
        self.servers = Servers(stack)
        self.names: dict[str, Any] = {"__name__": "__main__"}
        monkeypatch.chdir(folder)
        self._prepare_environment()

    def use_hub(self) -> None:
        """Replace the hub for the steps of the page; it has a model of the reader."""
        hub = self._stack.enter_context(hub_in_use(self.folder / ".hub"))
        hub.publish(resolve_model("mini"), "OWNER/NAME").private = True

    def _prepare_environment(self) -> None:
        programs = self.folder / ".programs"
        programs.mkdir()
        for name, command in (("tsdsr", "-m tsdsr"), ("python", ""), ("python3", "")):
            (programs / name).write_text(f'#!/bin/sh\nexec "{sys.executable}" {command} "$@"\n')
            (programs / name).chmod(0o755)
        (self.folder / ".tmp").mkdir()
        for name, value in {
            "PATH": os.pathsep.join([str(programs), str(Path(sys.executable).parent), os.environ["PATH"]]),
            "PYTHONPATH": os.pathsep.join([str(ROOT / "src"), os.environ.get("PYTHONPATH", "")]).rstrip(os.pathsep),
            "TMPDIR": str(self.folder / ".tmp"),
            "TSDSR_CACHE": str(self.folder / ".cache"),
            "COLUMNS": "120",
            "NO_COLOR": "1",
        }.items():
            self.monkeypatch.setenv(name, value)

    def do(self, step: Step) -> None:
        """Do a step; fail with the page, the line, the command and what it printed."""
        text = self.servers.with_real_ports(replacements.changed(step))
        output = io.StringIO()
        try:
            fails = bool(re.search(r"^error: ", step.shown, re.MULTILINE))
            with mock.patch("tsdsr.recipes.RECIPES", recipes_for(text)):
                if step.language == "python":
                    self._run_python(step, text, output)
                else:
                    status = self._run(text, output)
                    assert (status != 0) is fails, f"exit status {status}"
            if all(change.same_output for change in replacements.changes_for(step)):
                missing = missing_lines(step.shown, output.getvalue())
                assert not missing, "the page shows lines that were not printed:\n" + "\n".join(missing)
        except Exception as error:
            where = step.page.relative_to(ROOT)
            reason = str(error) if isinstance(error, AssertionError) else traceback.format_exc()
            pytest.fail(f"{where}:{step.line}: {text}\n{output.getvalue()}\n{reason}", pytrace=False)

    def _run_python(self, step: Step, text: str, output: io.StringIO) -> None:
        code = compile("\n" * (step.line - 1) + text, str(step.page), "exec", dont_inherit=True)
        with contextlib.redirect_stdout(output), contextlib.redirect_stderr(output):
            exec(code, self.names)

    def _run(self, text: str, output: io.StringIO) -> int:
        """Run what is typed on a line; return the exit status."""
        if COMMAND.search(text):
            self.servers.start(text)
            return 0
        for part in text.split(" && "):
            status = self._run_part(part, output)
            if status:
                return status
        return 0

    def _run_part(self, text: str, output: io.StringIO) -> int:
        simple = "".join(WITHOUT_SHELL.findall(text)) == text
        words = shlex.split(text) if simple else []
        if check_installation(text):
            return 0
        if words[:1] == ["cd"]:
            self.monkeypatch.chdir(words[1])
        elif text.startswith("export "):
            status, value = self._run_in_shell(f'{text}; printf %s "${text.split()[1].partition("=")[0]}"', output)
            self.monkeypatch.setenv(text.split()[1].partition("=")[0], value)
            return status
        elif "tsdsr" in words and all("=" in word for word in words[: words.index("tsdsr")]):
            variables = dict(word.split("=", 1) for word in words[: words.index("tsdsr")])
            with mock.patch.dict(os.environ, variables):
                result = CliRunner().invoke(app, words[words.index("tsdsr") + 1 :])
            output.write(result.output)
            if result.exception is not None and not isinstance(result.exception, SystemExit):
                raise result.exception
            self._require_results(words, result.exit_code)
            return result.exit_code
        else:
            status, printed = self._run_in_shell(text, output)
            output.write(printed)
            self._require_results(words, status)
            return status
        return 0

    def _run_in_shell(self, text: str, output: io.StringIO) -> tuple[int, str]:
        """Return exit status and standard output."""
        done = finished(["bash", "-c", text], timeout=120, text=True)
        output.write(done.stderr)
        return done.returncode, done.stdout

    def _require_results(self, words: list[str], status: int) -> None:
        """Check that what a command was to write is there."""
        if status or "--dry-run" in words:
            return
        for option, value in pairwise(words):
            if option in ("-o", "--output", "--json", "--csv", "--html", "--latex", "--markdown", "--figure"):
                filesystem, path = fsspec.core.url_to_fs(value)
                assert value == "-" or filesystem.exists(path), f"{value} was not written"
