"""Every command and every snippet of the pages runs, in the order of its page."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.docs.pages import PAGES, ROOT
from tests.docs.reader import Reader
from tests.docs.replacements import CHANGES, SKIPS, Skip, changed, skip_for, unused
from tests.docs.sandbox import Sandbox
from tests.docs.stand_ins import KeptGraphs, use_stand_ins
from tests.docs.steps import steps_of

RUN = [page for page in PAGES if steps_of(page)]


@pytest.fixture(scope="session")
def sandbox(tmp_path_factory: pytest.TempPathFactory) -> Sandbox:
    """What readers have, made when a page first names it."""
    return Sandbox(tmp_path_factory.mktemp("reader"))


@pytest.fixture(scope="session")
def graphs(tmp_path_factory: pytest.TempPathFactory) -> KeptGraphs:
    """Exported graphs, kept for the next page."""
    return KeptGraphs(tmp_path_factory.mktemp("graphs"))


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    """Ends what a page starts."""
    with ExitStack() as stack:
        yield stack


@pytest.mark.filterwarnings("ignore:Use .content=:DeprecationWarning")  # within huggingface_hub
@pytest.mark.parametrize("page", RUN, ids=lambda page: str(page.relative_to(ROOT)))
def test_steps(
    page: Path,
    sandbox: Sandbox,
    graphs: KeptGraphs,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    stack: ExitStack,
) -> None:
    steps = [step for step in steps_of(page) if skip_for(step) is None]
    text = "\n".join(changed(step) for step in steps)
    sandbox.prepare(tmp_path, text)
    use_stand_ins(monkeypatch, graphs)
    reader = Reader(tmp_path, monkeypatch, stack)
    if "OWNER/NAME" in text:
        reader.use_hub()
    for step in steps:
        reader.do(step)


@pytest.mark.parametrize("skip", SKIPS, ids=lambda skip: skip.pattern)
def test_what_does_not_run(skip: Skip) -> None:
    """Shows in the summary which commands do not run, and why."""
    pytest.skip(skip.reason)


def test_no_entry_of_the_tables_is_stale() -> None:
    steps = [step for page in RUN for step in steps_of(page)]
    assert unused([*CHANGES, *SKIPS], steps) == [], "no page has such a command: correct tests/docs/replacements.py"
