"""Commands that run no model: info, shards, studies."""

from __future__ import annotations

import re
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.cli.command import run
from tsdsr.study.definition import VOTES
from tsdsr.study.votes import Vote, VoteStore


@pytest.fixture
def folders(tmp_path: Path) -> Path:
    """Four folders of three pictures each: lr, gt, and the restorations ours and theirs."""
    for seed, (folder, edge) in enumerate((("lr", 16), ("gt", 64), ("ours", 64), ("theirs", 64))):
        (tmp_path / folder).mkdir()
        for name in "abc":
            pixels = np.random.default_rng((seed, ord(name))).integers(0, 256, (edge, edge, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / folder / f"{name}.png")
    return tmp_path


def test_photographs_are_packed_into_shards(folders: Path) -> None:
    code, output = run("data", "shard", folders / "gt", "-o", folders / "shards", "--min-side", 64, "--per-shard", 2)
    assert (code, output) == (0, f"3 images in 2 shards in {folders / 'shards'}\n")


def test_a_study_is_created_and_exported(folders: Path) -> None:
    study = folders / "study"
    systems = [f"{name}={folders / name}" for name in ("ours", "theirs")]
    code, output = run("study", "create", study, *systems, "--lr", folders / "lr", "--gt", folders / "gt")
    assert (code, output) == (0, f"3 images, 2 systems, 0 categories in {study}\n")
    code, output = run("study", "export", study, "--csv", folders / "votes.csv")
    assert (code, output) == (0, f"0 votes written to {folders / 'votes.csv'}\n")


def test_serving_and_reporting_a_study_name_the_extra(folders: Path, tried_imports: list[str]) -> None:
    study = folders / "study"
    run("study", "create", study, f"ours={folders / 'ours'}", f"theirs={folders / 'theirs'}", "--lr", folders / "lr",
        "--gt", folders / "gt")  # fmt: skip
    with closing(VoteStore(study / VOTES)) as store:
        for _ in range(3):
            session, _ = store.begin()
            for stem in "abc":
                store.add(Vote(session, stem, ("ours", "theirs"), "ours"))
    for command in ("serve", "report"):
        code, output = run("study", command, study)
        assert code == 2
        assert "run pip install '.[study]' in the folder of tsdsr" in output
    assert tried_imports == ["scipy"]
    tried_imports.clear()


def test_info_says_what_is_here_and_what_to_install() -> None:
    code, output = run("info")
    assert code == 0
    assert re.search(r"providers: ([a-z]+, )*cpu; --fast (works|needs a processor with VNNI)", output)
    for extra in ("torch", "openvino"):
        assert f"run pip install '.[{extra}]' in the folder of tsdsr" in output
    assert output.splitlines()[-1] == "'auto' takes the engine onnx for mini; other models need torch."
