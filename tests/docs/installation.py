"""Commands that install: checked instead of run, because ``make test`` itself runs them."""

from __future__ import annotations

import re
import shlex
from importlib.metadata import PackageNotFoundError, distribution

from tests.docs.pages import ROOT, extras


def check_installation(text: str) -> bool:
    """Check a command that installs something; return False if it is another kind of command.

    Raises:
        AssertionError: it names an extra, a package or a target of the Makefile that does not exist.
    """
    words = shlex.split(text)
    if words[:2] == ["pip", "install"] or words[1:4] == ["-m", "pip", "install"]:
        _check_packages(words[words.index("install") + 1 :])
    elif words[:1] == ["make"]:
        _check_targets(words[1:])
    elif words[1:3] != ["-m", "venv"] and not re.fullmatch(r"(\.|source) \S+/bin/activate", text):
        return False
    return True


def _check_packages(words: list[str]) -> None:
    takes_value = ("--index-url", "--extra-index-url", "-r", "--target")
    values = [word for previous, word in zip(["", *words], words, strict=False) if previous not in takes_value]
    for requirement in [word for word in values if not word.startswith("-")]:
        name, _, rest = requirement.partition("[")
        if name.startswith((".", "/")) and not rest:
            assert name != "." or (ROOT / "pyproject.toml").is_file()
        elif name == ".":
            assert set(rest.rstrip("]").split(",")) <= set(extras()), f"unknown extra: {requirement}"
        else:
            _check_package(re.split(r"[=<>~!]", name)[0])


def _check_package(name: str) -> None:
    try:
        distribution(name)
    except PackageNotFoundError:
        raise AssertionError(f"the tests do not know the package {name}") from None


def _check_targets(words: list[str]) -> None:
    targets = re.findall(r"^([\w-]+):(?!=)", (ROOT / "Makefile").read_text(), re.MULTILINE)
    wanted = [word for word in words if "=" not in word and not word.startswith("-")]
    assert set(wanted) <= set(targets), f"no such target: {wanted}"
