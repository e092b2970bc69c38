"""Mistakes in the arguments: one line, exit status 2, before anything heavy is imported."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
import typer

from tests.cli.command import run
from tsdsr.cli import app
from tsdsr.cli.group import refuse_empty
from tsdsr.errors import InvalidInputError


def commands() -> Iterator[tuple[str, ...]]:
    """Yield the words of every group and command."""
    todo: list[tuple[tuple[str, ...], Any]] = [((), typer.main.get_command(app))]
    while todo:
        words, command = todo.pop()
        yield words
        todo += [((*words, name), child) for name, child in getattr(command, "commands", {}).items()]


EACH = [pytest.param(words, id=" ".join(words) or "tsdsr") for words in sorted(commands())]


@pytest.mark.parametrize("words", EACH)
def test_short_help(words: tuple[str, ...]) -> None:
    code, output = run(*words, "-h")
    assert (code, output) == run(*words, "--help")
    assert code == 0
    assert output.startswith(f"Usage: {' '.join(('tsdsr', *words))} [OPTIONS]")


@pytest.mark.parametrize("words", EACH)
def test_help_fits_into_80_columns(words: tuple[str, ...]) -> None:
    _, output = run(*words, "--help")
    assert [line for line in output.splitlines() if len(line) > 80] == []


@pytest.mark.parametrize("words", EACH)
def test_an_unknown_option_is_one_line(words: tuple[str, ...]) -> None:
    code, output = run(*words, "--nonsense", "1")
    assert code == 2
    assert output.startswith("error: no such option: --nonsense")
    assert output.endswith(f"; see {' '.join(('tsdsr', *words))} --help\n")
    assert output.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("upscale a.png -o b --preset wrong", "'--preset': 'wrong' is not one of 'default', 'upstream'"),
        ("upscale a.png -o b --icc foo", "'--icc': 'foo' is not one of 'keep', 'srgb'"),
        ("upscale a.png -o b --scale x", "'--scale': must be a number, such as 0.5; see"),
        ("upscale a.png -o b --detail 0,5", "'--detail': must be a number, such as 0.5; see"),
        ("serve --port abc", "'--port': must be a whole number; see"),
        ("video my film.mp4 -o b.mp4", "(film.mp4); put a name with spaces in quotes; see"),
        ("pyproject.toml", "to restore 'pyproject.toml', type tsdsr upscale before it; see"),
        ("upscale a.png -o b --tile-batch 0", "'--tile-batch': "),
        ("upscale a.png", "missing option '-o' / '--output'"),
        ("upscale -o b", "missing argument 'INPUT"),
        ("upscale a.png -o", "requires an argument"),
        ("data degrade a -o b --preset wrong", "'--preset': 'wrong' is not one of"),
        ("study serve s --port 99999", "'--port': "),
        ("train student -o b --photos a --tracker mlflow", "'--tracker': 'mlflow' is not one of"),
        ("bench mini --size 0", "'--size': "),
        ("info extra", "unexpected extra argument"),
        ("nonsense", "no such command 'nonsense'"),
        ("data nonsense", "no such command 'nonsense'"),
    ],
)
def test_wrong_arguments_are_one_line(arguments: str, message: str) -> None:
    code, output = run(*arguments.split())
    assert code == 2
    assert message in output
    assert output.startswith("error: ")
    assert output.count("\n") == 1
    assert " --help\n" in output


@pytest.mark.parametrize("group", [(), ("data",), ("study",), ("train",)])
def test_summaries_of_commands_are_whole_sentences(group: tuple[str, ...]) -> None:
    _, output = run(*group, "--help")
    assert "..." not in output.split("Commands:")[1]


@pytest.mark.parametrize("arguments", [(), ("data",), ("study",), ("train",)])
def test_a_group_alone_prints_its_help(arguments: tuple[str, ...]) -> None:
    code, output = run(*arguments)
    assert (code, output.rstrip()) == (2, run(*arguments, "--help")[1].rstrip())


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        (["upscale", "", "-o", "out"], "an argument"),
        (["upscale", "a.png", "-o", ""], "-o"),
        (["upscale", "a.png", "--output="], "--output"),
        (["upscale", "a.png", "-o", " "], "-o"),
        (["evaluate", "--pred", "", "--gt", "g"], "--pred"),
        (["evaluate", "--pred", "p", "--json", ""], "--json"),
        (["compare", "", "--lr", "l", "-o", "o"], "an argument"),
        (["train", "student", "--photos", "", "-o", "runs"], "--photos"),
        (["train", "teacher", "--shards", "", "-o", "runs"], "--shards"),
        (["figures", "--run", "", "-o", "o"], "--run"),
        (["data", "shard", "", "-o", "o"], "an argument"),
        (["study", "create", "", "a=b"], "an argument"),
        (["export", "-o", ""], "-o"),
        (["bench", "mini", "--json", ""], "--json"),
    ],
)
def test_an_empty_path_is_refused(arguments: list[str], name: str) -> None:
    code, output = run(*arguments)
    assert (code, output) == (2, f"error: {name}: is empty; give a value, or '.' for the current folder\n")


def test_free_text_may_be_empty() -> None:
    refuse_empty(["study", "create", "s", "--title", "", "--suffix=", "--set", "a="])
    with pytest.raises(InvalidInputError, match="--gt"):
        refuse_empty(["study", "create", "s", "--title", "", "--gt", ""])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--help"], None),
        (["upscale", "a.png", "-o", "b", "--icc", "foo"], "is not one of"),
        (["upscale", "a.png", "-o", "b", "--scale", "9"], "scale must lie between 1 and 8, got 9"),
        (["upscale", "a.png", "-o", "b", "--tile", "1"], "tile must be at least 64 pixels"),
        (["upscale", "missing.png", "-o", "b"], "missing.png: no such file"),
    ],
)
def test_torch_is_not_imported_for_a_mistake(arguments: list[str], message: str | None) -> None:
    """It takes seconds."""
    code = (
        "import atexit, sys; atexit.register(lambda: print(sorted({'torch', 'diffusers'} & set(sys.modules)), "
        "file=sys.stderr)); from tsdsr.__main__ import main; main()"
    )
    made = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True)
    assert made.returncode == (0 if message is None else 2)
    assert made.stderr.endswith("[]\n"), made.stderr
    assert message is None or message in made.stderr
