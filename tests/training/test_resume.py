"""Resumed runs are bit-identical to uninterrupted runs."""

from __future__ import annotations

import json
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest
import torch

from tests.child_processes import started
from tests.training.tiny import (
    TinyPrompts,
    assert_same,
    config,
    packed,
    sd3_config,
    sd3_networks,
    trainer,
    weights,
)
from tsdsr.errors import TrainingError
from tsdsr.training.checkpoint import load_checkpoint_facts
from tsdsr.training.provenance import require_same_settings
from tsdsr.training.stored_config import config_from_json
from tsdsr.training.student import StudentTrainer

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("stop", [1, 3, 4])
def test_resuming_equals_not_stopping(photo_folder: Path, tmp_path: Path, stop: int) -> None:
    """N + M steps equal N, a new process's worth of state, M: every trained and averaged weight to the bit."""
    whole = trainer(photo_folder, tmp_path / "whole")
    whole.run()
    trainer(photo_folder, tmp_path / "parts").run(until=stop)
    torch.manual_seed(1234)  # whatever the global generator does in between
    rest = trainer(photo_folder, tmp_path / "parts")
    assert rest.step == stop
    rest.run()
    assert_same(weights(whole), weights(rest))


def test_resuming_lora_equals_not_stopping(photo_folder: Path, tmp_path: Path) -> None:
    def run(out: Path, until: int | None = None) -> StudentTrainer:
        t = trainer(photo_folder, out, sd3_config(), networks=sd3_networks(), prompts=TinyPrompts())
        t.run(until)
        return t

    whole = run(tmp_path / "whole")
    run(tmp_path / "parts", 1)
    assert_same(weights(whole), weights(run(tmp_path / "parts")))


def test_a_killed_run_continues_as_if_nothing_had_happened(photo_folder: Path, tmp_path: Path) -> None:
    """The killed run reads its photographs from shards, the other from their files."""
    shards = packed(photo_folder, tmp_path / "shards")
    cfg = config(steps=30, checkpoint_every=3)
    script = textwrap.dedent(
        f"""
        import sys
        from pathlib import Path
        sys.path.insert(0, {str(ROOT)!r})
        from tests.training.tiny import config, trainer
        trainer(Path(sys.argv[1]), Path(sys.argv[2]), config(steps=30, checkpoint_every=3)).run()
        """
    )
    killed = tmp_path / "killed"
    command = [sys.executable, "-c", script, str(shards), str(killed)]
    with started(command, stdout=subprocess.DEVNULL) as process:
        deadline = time.monotonic() + 120
        while len(list(killed.glob("checkpoint-*.pt"))) < 2:  # two are kept: at least six steps are done
            assert process.poll() is None, "the run ended before it could be killed"
            assert time.monotonic() < deadline
            time.sleep(0.02)
        process.kill()
        process.wait()
    resumed = trainer(shards, killed, cfg)
    assert 0 < resumed.step < 60
    resumed.run()
    whole = trainer(photo_folder, tmp_path / "whole", cfg)
    whole.run()
    assert_same(weights(whole), weights(resumed))


def test_a_run_with_other_settings_is_not_resumed(photo_folder: Path, tmp_path: Path) -> None:
    trainer(photo_folder, tmp_path).run(until=1)
    with pytest.raises(TrainingError, match="other settings"):
        trainer(photo_folder, tmp_path, config(seed=1))


def test_a_run_older_than_a_setting_goes_on(photo_folder: Path, tmp_path: Path) -> None:
    trainer(photo_folder, tmp_path).run(until=1)
    state = load_checkpoint_facts(tmp_path)
    assert state is not None
    settings = json.loads(state["config"])
    del settings["pairs"]["crops"]["fixed"]
    older = {**state, "config": json.dumps(settings)}
    require_same_settings(tmp_path, older, config().to_json())
    assert config_from_json(older["config"]) == config()
    with pytest.raises(TrainingError, match="other settings"):
        require_same_settings(tmp_path, older, config(seed=1).to_json())
