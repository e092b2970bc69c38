"""The interface keeps to its OpenAPI description: schemathesis makes requests of it, good and bad."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from tests.serving.conftest import picture
from tests.serving.pipes import RepeatingPipe
from tests.serving.server_process import ServerProcess, serving
from tsdsr.serving.app import create_app
from tsdsr.serving.metrics import Metrics
from tsdsr.serving.problems import PROBLEMS
from tsdsr.serving.settings import ServeSettings

schemathesis = pytest.importorskip("schemathesis", reason="needs the extra 'dev'")

REFERENCE = (Path(__file__).resolve().parents[2] / "docs" / "reference" / "http.md").read_text(encoding="utf-8")

PICTURES = st.sampled_from([picture(), picture(9, 9, "JPEG"), picture(5, 7, mode="LA")])
for kind in ("png", "jpeg", "webp", "tiff", "bmp", "avif", "heic", "jxl"):
    schemathesis.openapi.media_type(f"image/{kind}", PICTURES)
schemathesis.openapi.media_type("application/octet-stream", PICTURES)
schemathesis.openapi.format("binary", PICTURES)


def description() -> dict[str, Any]:
    """The description that a server gives of itself."""
    app = create_app(RepeatingPipe(), ServeSettings())
    app.state.queue.spool.close()
    return app.openapi()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    with serving(tmp_path_factory.mktemp("spool"), read_timeout=2) as server:
        yield server


def test_the_docs_list_every_type_of_problem_with_its_status() -> None:
    rows = re.findall(r"^\| (`/problems/.*?) \| (\d+) \|", REFERENCE, re.MULTILINE)
    listed = {name: int(status) for names, status in rows for name in re.findall(r"`/problems/([\w-]+)`", names)}
    assert listed == {name: status for name, (status, _) in PROBLEMS.items()}


def section(title: str) -> str:
    """A section of the reference, up to the next title of its level or above."""
    (found,) = re.findall(rf"^(#+) {re.escape(title)}\n(.*?)(?=^#{{1,3}} |\Z)", REFERENCE, re.MULTILINE | re.DOTALL)
    return str(found[1])


def names_in(text: str) -> set[str]:
    """The names in backticks in the first cells of tables."""
    cells = re.findall(r"^\| (`.*?) \|", text, re.MULTILINE)
    return {name for cell in cells for name in re.findall(r"`([^`]+)`", cell)}


def test_the_docs_list_every_endpoint_with_its_parameters() -> None:
    operations = {
        f"{method.upper()} {path}": operation
        for path, item in description()["paths"].items()
        for method, operation in item.items()
    }
    assert set(re.findall(r"^### ((?:GET|POST|DELETE) \S+)$", REFERENCE, re.MULTILINE)) == set(operations)
    options = names_in(section("Options"))
    for name, operation in operations.items():
        found = {parameter["name"] for parameter in operation.get("parameters", []) if parameter["in"] == "query"}
        if name in ("POST /v1/upscale", "POST /v1/jobs"):
            assert found == options
        else:
            assert found <= names_in(section(name))


def test_the_docs_list_every_member_and_every_metric() -> None:
    schemas = description()["components"]["schemas"]
    assert names_in(section("Job")) == set(schemas["JobView"]["properties"])
    assert names_in(section("GET /v1/limits")) == set(schemas["LimitsView"]["properties"])
    assert names_in(section("GET /v1/models")) == set(schemas["ModelView"]["properties"])
    assert set(schemas["FormatView"]["properties"]) <= set(re.findall(r"`(\w+)`", section("GET /v1/limits")))
    metrics = Metrics()
    metrics.observe(lambda: 0, lambda: 0)
    metrics.request("GET", "/", 200, 0.0)
    shown = set(re.findall(r"^# TYPE (tsdsr_\w+)", metrics.text().decode(), re.MULTILINE))
    assert names_in(section("Metrics")) - {"process_…"} == {name for name in shown if not name.endswith("_created")}


def takes_pictures_for_mistakes(case: Any) -> bool:
    """Whether schemathesis takes a good form for a bad one: it does so for bytes where JSON has a string."""
    return case.meta.phase.name.name == "COVERAGE" and isinstance(case.body, dict)


@schemathesis.openapi.from_dict(description()).parametrize()
@settings(max_examples=10, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck))
def test_answers_are_as_described(case: Any, server: ServerProcess) -> None:
    if case.meta.generation.mode.is_positive:
        form = case.body if isinstance(case.body, dict) else {}
        for name in ("width", "height", *form):  # whether a size is valid depends on the picture
            case.query.pop(name, None)
        for name in ("width", "height"):
            form.pop(name, None)
    excluded = [schemathesis.checks.negative_data_rejection] if takes_pictures_for_mistakes(case) else []
    case.call_and_validate(base_url=f"http://127.0.0.1:{server.port}", excluded_checks=excluded)
