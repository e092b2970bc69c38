"""The reader of the pages notices what is wrong with a page."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.docs.pages import ROOT
from tests.docs.reader import Reader
from tests.docs.steps import Step

PAGE = ROOT / "README.md"


@pytest.fixture
def reader(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Reader]:
    """A reader in an empty folder."""
    with ExitStack() as stack:
        yield Reader(tmp_path, monkeypatch, stack)


def sh(text: str, shown: str = "") -> Step:
    return Step(PAGE, 12, "sh", text, shown)


@pytest.mark.parametrize(
    ("step", "reason"),
    [
        (sh("tsdsr upscale nothing.jpg -o out"), "nothing.jpg: no such file"),
        (sh("echo one && false"), "exit status 1"),
        (sh("echo one", "two\n"), "two"),
        (sh("echo something", "error: something\n"), "exit status 0"),
        (sh("touch out && true -o result.png"), "result.png was not written"),
        (Step(PAGE, 12, "python", "print('one')\nraise KeyError('key')\n"), 'README.md", line 13'),
        (Step(PAGE, 12, "python", "import warnings\nwarnings.warn('old')\n"), "UserWarning: old"),
    ],
)
def test_a_step_that_fails_is_named(reader: Reader, step: Step, reason: str) -> None:
    with pytest.raises(pytest.fail.Exception) as failure:
        reader.do(step)
    assert str(failure.value).startswith(f"README.md:12: {step.text}\n")
    assert reason in str(failure.value)


def test_steps_are_typed_in_one_session(reader: Reader, tmp_path: Path) -> None:
    """Folder, variables and names in Python last; an error that the page shows is expected."""
    reader.do(sh("mkdir -p a/b"))
    reader.do(sh("cd a"))
    reader.do(sh("export WORD=$(echo thing)"))
    reader.do(sh("for i in 1 2; do\n  echo $WORD $i >> b/words\ndone"))
    assert (tmp_path / "a" / "b" / "words").read_text() == "thing 1\nthing 2\n"
    reader.do(sh("tsdsr upscale gone.jpg -o out", "error: gone.jpg: no such file\n"))
    reader.do(Step(PAGE, 1, "python", "n = 1\n"))
    reader.do(Step(PAGE, 5, "python", "print(n + 1, 'things')\n", "2 things\n"))
