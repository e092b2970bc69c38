"""Two processes on the CPU (gloo) give the same result as one process with the full batch."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
import torch

from tests.child_processes import finished
from tests.training.tiny import TSD, TinyPrompts, config, sd3_config, sd3_networks, trainer, weights
from tsdsr.training.config import Phase
from tsdsr.training.student import StudentTrainer

ROOT = Path(__file__).parents[2]
PHASE = Phase(
    steps=3, batch_size=4, lr=(1e-3, 1e-3), fake_lr=(1e-3, 1e-3), l1_weight=1.0, adversarial_weight=0.1, tsd=TSD
)

SCRIPT = textwrap.dedent(
    """
    import sys
    from pathlib import Path
    sys.path.insert(0, sys.argv[1])
    import torch
    torch.set_num_threads(1)
    from tests.training.test_parallel import make
    run = make(sys.argv[2], Path(sys.argv[3]), Path(sys.argv[4]), accumulation=int(sys.argv[5]))
    if sys.argv[6] == "interrupt" and run.accelerator.process_index == 1:
        import os, signal
        honest = run.train_step
        def train_step(batches):
            if run.step == 1:
                os.kill(os.getpid(), signal.SIGINT)
            return honest(batches)
        run.train_step = train_step
    try:
        run.run()
    except KeyboardInterrupt:
        assert sys.argv[6] == "interrupt" and run.step == 2
        sys.exit()
    assert run.accelerator.num_processes == 2
    run.close()
    """
)


def make(kind: str, photos: Path, out: Path, accumulation: int = 1) -> StudentTrainer:
    if kind == "mini":
        return trainer(photos, out, config(phases=(PHASE,), accumulation=accumulation, validate_every=2))
    cfg = sd3_config(accumulation=accumulation)
    return trainer(photos, out, cfg, networks=sd3_networks(), prompts=TinyPrompts())


def launch(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-W", "ignore", "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    command += arguments
    return finished(command, timeout=200, text=True, cwd=ROOT)


@pytest.mark.parametrize(("kind", "accumulation"), [("mini", 1), ("mini", 2), ("sd3", 1)])
def test_two_processes_equal_one(photo_folder: Path, tmp_path: Path, kind: str, accumulation: int) -> None:
    script = tmp_path / "run.py"
    script.write_text(SCRIPT)
    two = tmp_path / "two"
    result = launch(str(script), str(ROOT), kind, str(photo_folder), str(two), str(accumulation), "whole")
    assert result.returncode == 0, result.stderr[-3000:]
    one = make(kind, photo_folder, tmp_path / "one")
    one.run()
    again = make(kind, photo_folder, two, accumulation)  # reads what the first of the two processes stored
    assert again.step == one.step
    expected, got = weights(one), weights(again)
    assert expected.keys() == got.keys()
    for name, value in expected.items():
        torch.testing.assert_close(got[name], value, rtol=2e-3, atol=5e-6, msg=name)
    assert len((two / "log.jsonl").read_text().splitlines()) >= one.step


def test_ctrl_c_for_one_process_stops_all_after_the_same_step(photo_folder: Path, tmp_path: Path) -> None:
    script = tmp_path / "run.py"
    script.write_text(SCRIPT)
    two = tmp_path / "two"
    result = launch(str(script), str(ROOT), "mini", str(photo_folder), str(two), "1", "interrupt")
    assert result.returncode == 0, result.stderr[-3000:]
    assert "stopped at step 2 of 3" in result.stderr
    assert make("mini", photo_folder, two).step == 2
