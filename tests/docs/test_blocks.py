"""Blocks of code: each has a language, and what is no command is at least well formed."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import pytest
import yaml

from tests.docs.installation import check_installation
from tests.docs.pages import PAGES, ROOT, Block, blocks_of, each_page
from tests.docs.replacements import Change, skip_for
from tests.docs.shown_output import missing_lines
from tests.docs.steps import Step, commands_of, steps_of

LANGUAGES = {"sh", "python", "text", "json", "yaml", "math"}
"""Only ``sh`` and ``python`` are typed by readers, so that what they type runs in a test."""


@each_page
def test_every_block_has_a_language(page: Path) -> None:
    assert {
        f"line {block.line}: {block.language}" for block in blocks_of(page) if block.language not in LANGUAGES
    } == set()


@each_page
def test_files_in_the_docs_are_well_formed(page: Path) -> None:
    for block in blocks_of(page):
        if block.language in ("json", "yaml"):
            (json.loads if block.language == "json" else yaml.safe_load)(block.text)


@each_page
def test_scripts_that_do_not_run_have_the_options(page: Path) -> None:
    """Benchmarks run for hours, so their options are looked up in their text."""
    for step in steps_of(page):
        script = re.search(r"\bpython (\S+\.py)", step.text)
        if script and skip_for(step):
            text = (ROOT / script[1]).read_text()
            options = [word for word in shlex.split(step.text) if re.match(r"--?[a-z]", word)]
            assert [option for option in options if f'"{option}"' not in text] == [], step.text


def test_a_command_ends_where_the_shell_ends_it() -> None:
    text = (
        "# a comment\none --x \\\n   y  # why\n\nfor a in b c; do\n  two $a\ndone\n"
        "three 'a\nb'\ncat > f << 'END'\nfour\nEND\n'#' a#b \"# c\" # d\n"
    )
    assert list(commands_of(Block("sh", 10, text))) == [
        (11, "one --x y"),
        (14, "for a in b c; do\n  two $a\ndone"),
        (17, "three 'a\nb'"),
        (19, "cat > f << 'END'\nfour\nEND"),
        (22, "'#' a#b \"# c\""),
    ]


def test_output_belongs_to_the_last_command_before_it(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        "```sh\na\nb\n```\n\n```text\nout\n```\n\nProse.\n\n```text\nno output\n```\n\n```python\nc\n```\n"
        "Then you see:\n\n```text\nend\n```\n\n```sh\nd\n```\nA file:\n```text\nno output\n```\n"
    )
    found = [(step.line, step.language, step.text, step.shown) for step in steps_of(page)]
    assert found == [(2, "sh", "a", ""), (3, "sh", "b", "out\n"), (17, "python", "c\n", "end\n"), (26, "sh", "d", "")]


def test_output_is_compared_by_its_words() -> None:
    printed = "1 upscaled, 0 skipped in 1.4 s\n┃ engine ┃ here ┃\nwritten to results/photo.jpg\n"
    assert missing_lines("12 upscaled, 3 skipped in 2 min\n│ engine │ here │\n…\nwritten to …\n", printed) == []
    assert missing_lines("1 upscaled, 0 failed\nengine\nwritten to other/photo.jpg\n", printed) == [
        "1 upscaled, 0 failed",
        "written to other/photo.jpg",
    ]


@pytest.mark.parametrize(
    "text", ["pip install .", "pip install '.[eval,train]' scikit-image", "make test", ". env/bin/activate"]
)
def test_installing_is_checked(text: str) -> None:
    assert check_installation(text)


@pytest.mark.parametrize("text", ["pip install '.[evil]'", "pip install no-such-package", "make tests"])
def test_what_cannot_be_installed_is_refused(text: str) -> None:
    with pytest.raises(AssertionError):
        check_installation(text)


def test_other_commands_are_no_installation() -> None:
    assert not check_installation("tsdsr info")


def test_a_change_applies_to_the_command() -> None:
    change = Change("b", "a reason", add="--c", swap=(r"--n \d+", "--n 1"))
    assert change.apply("a b --n 30") == "a b --n 1 --c"


def test_the_pages_have_many_steps() -> None:
    """Guards the tests of the pages against a parser that finds nothing."""
    steps: list[Step] = [step for page in PAGES for step in steps_of(page)]
    assert sum(step.language == "sh" for step in steps) > 150
    assert sum(step.language == "python" for step in steps) > 25
