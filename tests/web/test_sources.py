"""The page's own tests and types, by its own tools."""

from __future__ import annotations

import subprocess

import pytest

from tests.web.conftest import WEB


@pytest.mark.parametrize("tool", ["vitest/vitest.mjs run", "typescript/bin/tsc"])
def test_the_sources_pass_their_own_checks(node: str, tool: str) -> None:
    script, *arguments = tool.split()
    command = [node, f"node_modules/{script}", *arguments]
    result = subprocess.run(command, cwd=WEB, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
