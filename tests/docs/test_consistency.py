"""What several pages say, or pages and code, is the same everywhere."""

from __future__ import annotations

import ast
import re
from pathlib import Path

from tests.docs.pages import ROOT, code_lines, each_page, extras


@each_page
def test_extras_in_the_docs_exist(page: Path) -> None:
    """The package is on no index: pip installs it from the checkout, ``.[extra]``."""
    text = page.read_text()
    assert "tsdsr[" not in text
    named = [name for names in re.findall(r"'\.\[([^\]]*)\]'", text) for name in names.split(",")]
    named += re.findall(r"\bthe extra `(\w+)`", text)
    assert set(named) <= set(extras())


def test_the_page_on_installing_lists_every_extra() -> None:
    table = re.findall(r"^\| (`\w+`.*?) \|", (ROOT / "docs" / "how-to" / "install.md").read_text(), re.MULTILINE)
    assert {name for row in table for name in re.findall(r"`(\w+)`", row)} == set(extras()) - {"all", "dev", "docs"}


def test_extras_in_error_messages_exist() -> None:
    named = set()
    for path in (ROOT / "src" / "tsdsr").rglob("*.py"):
        assert "tsdsr[" not in path.read_text(), path
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "install_extra":
                named |= {a.value for a in node.args if isinstance(a, ast.Constant)}
    assert {"train", "eval", "onnx"} <= named
    assert named <= set(extras())


def test_the_extra_all_and_make_install_bring_every_extra() -> None:
    """``make install`` installs the extra ``dev``."""
    found = extras()
    assert set(re.findall(r"\w+", found["all"])) - {"tsdsr"} == set(found) - {"all", "dev", "docs"}
    assert '"tsdsr[all,docs]"' in found["dev"]
    assert '--editable ".[dev]"' in (ROOT / "Makefile").read_text()


def test_the_page_on_training_says_what_that_needs() -> None:
    lines = list(code_lines(ROOT / "docs" / "how-to" / "train.md"))
    install = next(i for i, line in enumerate(lines) if "'.[train]'" in line)
    assert install < next(i for i, line in enumerate(lines) if line.startswith("tsdsr train"))
    assert "lpips" in extras()["train"]


def test_the_figures_of_mini_are_the_same_on_every_page() -> None:
    """Its model card's metadata and table, the README, and its measurements."""
    card = (ROOT / "src" / "tsdsr" / "weights" / "mini" / "README.md").read_text()
    stored = re.findall(r"type: (\w+), value: ([\d.]+), name", card)
    figures = [value.removeprefix("0") for _, value in stored]
    assert [name for name, _ in stored] == ["psnr", "ssim", "lpips", "dists", "niqe"]

    def row(text: str, name: str) -> list[str]:
        (line,) = (line for line in text.splitlines() if line.lstrip().startswith(f"| {name} |"))
        return re.findall(r"[| *](\d*\.\d+)(?= \[| \||\*)", line)

    psnr, _, lpips, dists, niqe = figures
    assert row(card, "**mini v5**") == figures
    assert row((ROOT / "docs" / "measurements" / "mini.md").read_text(), "**v5**, shipped")[:5] == figures
    assert row((ROOT / "README.md").read_text(), "**mini**")[:4] == [psnr, lpips, dists, niqe]
