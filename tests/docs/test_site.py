"""The site: its build finds every planted fault; its pages load nothing from elsewhere and are accessible."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.serving.in_browser import DESK, PHONE

pytest.importorskip("zensical", reason="needs the extra 'docs'")

ROOT = Path(__file__).resolve().parents[2]
MODULE = '''"""A module."""


def double(number: float) -> float:
    """Double a number; see :func:`double`, :func:`~little.secret` and :math:`2 x`.

    Args:
        number (float): what to double.
    """
    return 2 * number
'''
PAGES = {
    "index.md": "# Home\n\n[A page](page.md#section), $x^2$.\n\n![a picture](picture.png)\n\n::: little.double\n",
    "page.md": "# Page\n\n## Section\n\n<!-- include: OUTSIDE.md -->\n",
}
CHECKED = [
    "index.html",
    "explanation/method.html",
    "how-to/upscale.html",
    "reference/command-line/upscale.html",
    "reference/python/upscaling.html",
]


def build(project: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "docs_tools.build", "--config", str(project / "zensical.toml")]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=250)


def make_project(folder: Path) -> Path:
    """Create a site of two pages with the configuration of the real one."""
    text = (ROOT / "zensical.toml").read_text("utf-8")
    nav = 'nav = [{ "Home" = "index.md" }, { "Page" = "page.md" }]\n'
    (folder / "zensical.toml").write_text(re.sub(r"nav = \[\n.*?\n\]\n", nav, text, flags=re.DOTALL))
    shutil.copytree(ROOT / "docs" / "assets", folder / "docs" / "assets")
    (folder / "docs" / "picture.png").write_bytes(b"")
    (folder / "src").mkdir()
    (folder / "src" / "little.py").write_text(MODULE)
    (folder / "OUTSIDE.md").write_text("# Title\n\nFrom outside: [the page](docs/index.md).\n")
    for name, content in PAGES.items():
        (folder / "docs" / name).write_text(content)
    return folder


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The real site, built into a folder of its own."""
    project = tmp_path_factory.mktemp("site")
    shutil.copytree(ROOT / "docs", project / "docs")
    shutil.copy(ROOT / "zensical.toml", project)
    for name in ("CHANGELOG.md", "src"):
        (project / name).symlink_to(ROOT / name)
    found = build(project)
    assert found.returncode == 0, found.stderr + found.stdout
    return project / "site"


def test_the_strict_build_of_the_site_succeeds_and_equations_are_mathml(site: Path) -> None:
    page = (site / "explanation" / "method.html").read_text("utf-8")
    assert "<math" in page
    assert "$$" not in page
    assert "<autoref" not in "".join(path.read_text("utf-8") for path in site.rglob("*.html"))


def test_every_public_name_has_an_entry_in_the_python_reference(site: Path) -> None:
    import tsdsr

    pages = "".join(path.read_text("utf-8") for path in (site / "reference" / "python").glob("*.html"))
    missing = []
    for name in set(tsdsr.__all__) - {"__version__"}:
        entries = (f'id="tsdsr.{name}"', f'id="{tsdsr._EXPORTS[name]}.{name}"')
        missing += [] if any(entry in pages for entry in entries) else [name]
    assert missing == []


def serious_faults(page: Any) -> list[str]:
    """What axe-core calls serious or critical on a page."""
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    found = axe.run(page).response["violations"]
    return [f"{one['id']}: {one['nodes'][0]['html']}" for one in found if one["impact"] in ("serious", "critical")]


@pytest.mark.parametrize("device", [DESK, PHONE], ids=["desk", "phone"])
def test_pages_load_nothing_from_elsewhere_and_are_accessible(site: Path, browser: Any, device: dict[str, Any]) -> None:
    """Opened from the disk, without a server."""
    requests: list[str] = []
    errors: list[str] = []
    with browser.new_context(**device, color_scheme="light" if device is DESK else "dark") as context:
        page = context.new_page()
        page.on("request", lambda request: requests.append(request.url))
        page.on("pageerror", lambda error: errors.append(str(error)))
        for name in CHECKED:
            page.goto((site / name).as_uri())
            assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), name
            if name in CHECKED[: 3 if device is DESK else 2]:
                assert serious_faults(page) == [], name
    assert len(requests) > len(CHECKED)
    assert [url for url in requests if not url.startswith(("file:", "data:", "blob:"))] == []
    assert errors == []


def test_options_are_readable_on_a_phone(site: Path, browser: Any) -> None:
    """A row is a paragraph within the width of the screen, and the name of an option stays on one line."""
    with browser.new_context(**PHONE) as context:
        page = context.new_page()
        page.goto((site / "reference" / "command-line" / "upscale.html").as_uri())
        width = page.evaluate("innerWidth")
        row = page.locator(".settings tr", has_text="--subsampling")
        name, meaning = row.locator("td").first, row.locator("td").last
        assert meaning.bounding_box()["y"] > name.bounding_box()["y"]
        assert meaning.bounding_box()["x"] + meaning.bounding_box()["width"] <= width
        for code in page.locator("article p code, article td code").all():
            assert code.evaluate("element => element.getClientRects().length") == 1, code.inner_text()


def test_a_site_without_faults_is_built(tmp_path: Path) -> None:
    """Guards the tests below, which plant faults in it."""
    found = build(make_project(tmp_path))
    assert found.returncode == 0, found.stderr + found.stdout
    assert "Open" in found.stdout
    page = (tmp_path / "site" / "page.html").read_text("utf-8")
    assert 'From outside: <a href="index.html">the page</a>' in page
    home = (tmp_path / "site" / "index.html").read_text("utf-8")
    assert home.count("<math") == 2
    assert re.search(r'href="#little.double"><code>double</code></a>, <span [^>]*><code>secret</code></span>', home)


def test_the_build_fails_on_every_planted_fault(tmp_path: Path) -> None:
    docs = make_project(tmp_path) / "docs"
    (docs / "lost.md").write_text("# Lost\n")
    (docs / "index.md").write_text(
        "# Home\n\n[a](gone.md) [b](page.md#gone) <a href='far.html'>c</a> [e](../zensical.toml)\n\n![d](gone.png)\n\n"
        "A paragraph.\n- a list\n  - in it\n\n::: little.double\n"
    )
    (tmp_path / "src" / "little.py").write_text(MODULE.replace("number (float)", "number, other (float)"))
    config = (tmp_path / "zensical.toml").read_text("utf-8")
    (tmp_path / "zensical.toml").write_text(config.replace('"page.md" }', '"page.md" }, { "X" = "absent.md" }'))
    found = build(tmp_path)
    assert found.returncode == 1
    for fault in (
        "index.html: gone.html does not exist",
        "index.html: page.html#gone: there is no such heading",
        "index.html: far.html does not exist",
        "index.html: gone.png does not exist",
        "index.html: ../zensical.toml leads out of docs/; name the file in backticks instead",
        "lost.md is not in the navigation",
        "absent.md is in the navigation and does not exist",
        "Parameter 'number, other' does not appear in the function signature",
        "index.md:8: leave a line free before a list",
        "index.md:9: indent a list within a list by four spaces",
    ):
        assert fault in found.stderr


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("$\\unheardof{x}$", "is no command that the site can show"),
        ("$\\frac{1$", "a brace has no partner in the equation"),
        ("<!-- include: ABSENT.md -->", "ABSENT.md"),
        ("::: little.absent", "little.absent"),
    ],
    ids=["equation", "brace", "included file", "object"],
)
def test_the_build_fails_on_what_a_page_cannot_show(tmp_path: Path, text: str, fault: str) -> None:
    (make_project(tmp_path) / "docs" / "page.md").write_text(f"# Page\n\n## Section\n\n{text}\n")
    found = build(tmp_path)
    assert found.returncode == 1
    assert fault in found.stderr, found.stderr


def test_pages_opened_from_the_disk_can_be_searched(site: Path, browser: Any) -> None:
    with browser.new_context(**DESK) as context:
        page = context.new_page()
        page.goto((site / "index.html").as_uri())
        page.keyboard.press("Control+k")
        page.get_by_placeholder("Search").fill("mini_smoke_teacher")
        page.locator("a[href*='reference/recipes.html']").filter(has_text="mini_smoke_teacher").first.wait_for()
