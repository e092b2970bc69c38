"""The commands in the pages of the documentation: complete, and in an order in which a reader can type them."""

from __future__ import annotations

import re
from itertools import pairwise
from pathlib import Path

import typer

from tests.docs.pages import each_page, find_command, typed_commands
from tsdsr.models.zoo import SPECS
from tsdsr.pipeline.model_files import PACKAGED_MODELS

MADE_BY_TSDSR = {"--model", "--teacher", "--init", "--cache", "--prompts", "--replay", "--run"}
"""Options whose values are made by a command."""

STUDY_MAKES = ("create", "sheets")
"""Commands of ``tsdsr study`` that make what the others use."""


def options_of(words: list[str]) -> list[tuple[str, str]]:
    """Return pairs of option and value."""
    return [(a, b) for a, b in pairwise(words) if a.startswith("-")]


@each_page
def test_options_in_the_docs_exist(page: Path) -> None:
    prose = re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL)
    wrong = []
    for line in re.findall(r"`tsdsr ([^`]+)`", prose):
        command, words = find_command(line.split())
        if hasattr(command, "commands") and words and not words[0].startswith("-"):
            wrong.append(line)
        known = {option for p in command.params for option in (*p.opts, *p.secondary_opts)} | {"-h", "--help"}
        wrong += [f"{line}: {option}" for option in re.findall(r"(?<=\s)--?[a-z][a-z-]*", line) if option not in known]
    assert wrong == []


@each_page
def test_commands_in_the_docs_are_complete(page: Path) -> None:
    """Every command is parsed: the options exist, values are of their types, nothing required is missing."""
    wrong = []
    for words in typed_commands(page, launched=True):
        command, arguments = find_command(words)
        try:
            command.make_context("tsdsr", arguments)
        except typer.BadParameter.__mro__[1] as error:
            wrong.append(f"{' '.join(words)}: {error}")
    assert wrong == []


@each_page
def test_what_commands_in_the_docs_use_exists_by_then(page: Path) -> None:
    """A model, cache or run is packaged, the reader's own, on the hub, or made by an earlier command."""
    made: list[str] = []
    wrong = []
    for words in typed_commands(page):
        used = [(name, value.rstrip("/")) for name, value in options_of(words) if name in MADE_BY_TSDSR]
        used += [("model", words[1])] if words[0] == "fold" else []
        used += [("study", words[2].rstrip("/"))] if words[0] == "study" and words[1] not in STUDY_MAKES else []
        for name, value in used:
            known = value in PACKAGED_MODELS or (words[0] in ("convert", "data") and value in SPECS)
            hub = words[:2] == ["data", "caption"] and re.fullmatch(r"[\w.-]+/[\w.-]+", value)
            earlier = any(value == place or value.startswith(f"{place}/") for place in made)
            if not (known or hub or earlier or re.fullmatch(r"[A-Z0-9_]+(/[A-Z0-9_]+)?", value)):
                wrong.append(f"{' '.join(words)}: {name} {value}")
        made += [value.rstrip("/") for name, value in options_of(words) if name in ("-o", "--output", "--key")]
        made += [words[2].rstrip("/")] if words[0] == "study" and words[1] in STUDY_MAKES else []
    assert wrong == []


@each_page
def test_no_command_in_the_docs_finds_its_result_already_made(page: Path) -> None:
    """The second of two commands with one output folder and input would have nothing to do."""
    seen = set()
    for words in typed_commands(page):
        outputs = [value for name, value in options_of(words) if name == "-o"]
        action = (*words[:2], *outputs)
        assert not outputs or action not in seen, action
        seen.add(action)
