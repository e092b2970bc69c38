"""The Dockerfile and compose.yaml agree with the package. Building needs a container engine and is done by hand."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from tests.docs.pages import extras
from tsdsr.cli.serve import parse_size

ROOT = Path(__file__).resolve().parents[1]
DOCKERFILE = (ROOT / "Dockerfile").read_text(encoding="utf-8")
STAGES = re.findall(r"^FROM \S+ AS (\S+)$", DOCKERFILE, re.MULTILINE)


def test_the_extras_exist_and_the_server_is_among_them() -> None:
    named = re.findall(r"'\.\[(.*?)\]'", DOCKERFILE)
    assert len(named) == 2
    assert all("serve" in names.split(",") and set(names.split(",")) <= set(extras()) for names in named)


def test_what_is_copied_is_in_the_build_context() -> None:
    ignored = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    copied = [name for line in re.findall(r"^COPY (?!--)(.*)$", DOCKERFILE, re.MULTILINE) for name in line.split()[:-1]]
    assert copied == ["pyproject.toml", "README.md", "LICENSE", "src"]
    assert all((ROOT / name).exists() and f"!{name}" in ignored for name in copied)


def test_the_default_target_is_the_light_one_and_runs_as_a_user() -> None:
    assert STAGES[-2:] == ["cuda", "cpu"]
    assert re.search(r"^USER [1-9]\d+:[1-9]\d+$", DOCKERFILE, re.MULTILINE)


def test_the_health_check_asks_the_server() -> None:
    pytest.importorskip("fastapi", reason="needs the extra 'serve'")
    from tsdsr.serving.security import _OPEN_PATHS
    from tsdsr.serving.settings import ServeSettings

    address = re.search(r"http://([\d.]+):(\d+)(/\w+)'", DOCKERFILE)
    assert address is not None
    settings = ServeSettings(host=address[1])
    assert int(address[2]) == settings.port
    assert address[3] in _OPEN_PATHS
    assert f'"--host", "{settings.host}"' in DOCKERFILE


def test_compose_wants_a_token_and_leaves_room_for_uploads() -> None:
    service = yaml.safe_load((ROOT / "compose.yaml").read_text(encoding="utf-8"))["services"]["tsdsr"]
    assert service["build"]["target"] in STAGES
    assert service["environment"]["TSDSR_TOKEN"].startswith("${TSDSR_TOKEN:?")
    assert service["ports"] == ["127.0.0.1:8787:8787"]
    size = re.search(r"size=(\w+)", service["tmpfs"][0])
    assert size is not None
    assert parse_size("size", f"{size[1]}b".upper()) > parse_size("--max-disk", "4GB")
