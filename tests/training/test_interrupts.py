"""Signals end a run after a step, with a checkpoint; the run continues from there to the bit."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.child_processes import started
from tests.signals import as_in_a_terminal
from tests.training.tiny import assert_same, config, trainer, weights
from tsdsr.training.batches import _loading
from tsdsr.training.interrupts import RunInterrupted, StopRequest, ignore_interrupts, interrupts_blocked
from tsdsr.training.student import StudentTrainer

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def handlers() -> Iterator[None]:
    """Default handlers, which are missing where the tests run in the background of a shell."""
    signals = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = [signal.getsignal(s) for s in signals]
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for s in signals[1:]:
        signal.signal(s, signal.SIG_DFL)
    yield
    for s, handler in zip(signals, before, strict=True):
        signal.signal(s, handler)


def interrupted(run: StudentTrainer, step: int, *signals: signal.Signals) -> RunInterrupted:
    """Run until signals arrive within a step."""
    honest = run.train_step

    def train_step(batches: object) -> object:
        if run.step == step:
            for signum in signals:
                os.kill(os.getpid(), signum)
        return honest(batches)  # type: ignore[arg-type]

    run.train_step = train_step  # type: ignore[assignment,method-assign]
    with pytest.raises(RunInterrupted) as found:
        run.run()
    return found.value


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_saves_and_the_run_goes_on_as_if_nothing_had_happened(
    photo_folder: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str], signum: signal.Signals
) -> None:
    error = interrupted(trainer(photo_folder, tmp_path / "parts"), 2, signum)
    assert error.signum == signum
    said = capfd.readouterr().err
    assert "stopping after this step" in said
    assert "stopped at step 3 of 6; repeat the run to continue" in said
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    rest = trainer(photo_folder, tmp_path / "parts")
    assert rest.step == 3
    rest.run()
    whole = trainer(photo_folder, tmp_path / "whole")
    whole.run()
    assert_same(weights(whole), weights(rest))


def test_a_launcher_may_send_sigterm_after_ctrl_c(photo_folder: Path, tmp_path: Path) -> None:
    run = trainer(photo_folder, tmp_path)
    error = interrupted(run, 1, signal.SIGINT, signal.SIGTERM, signal.SIGTERM)
    assert (error.signum, run.step) == (signal.SIGINT, 2)


def test_a_second_ctrl_c_stops_at_once() -> None:
    request = StopRequest(lambda: None)
    with request.listening():
        signal.raise_signal(signal.SIGINT)
        assert request.requested
        with pytest.raises(KeyboardInterrupt) as found:
            signal.raise_signal(signal.SIGINT)
    assert not isinstance(found.value, RunInterrupted)


def test_nohup_is_respected() -> None:
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    request = StopRequest(lambda: None)
    with request.listening():
        os.kill(os.getpid(), signal.SIGHUP)
    assert not request.requested


def test_a_validation_is_cut_short(photo_folder: Path, tmp_path: Path) -> None:
    run = trainer(photo_folder, tmp_path, config(validate_every=2))
    honest, seen = run.stop_validation_if_asked, []

    def check() -> None:
        seen.append(run.step)
        os.kill(os.getpid(), signal.SIGINT)
        honest()

    run.stop_validation_if_asked = check  # type: ignore[method-assign]
    with pytest.raises(RunInterrupted):
        run.run()
    assert (run.step, seen) == (2, [2])
    assert "validation/" not in (tmp_path / "log.jsonl").read_text()
    saved = weights(trainer(photo_folder, tmp_path, config(validate_every=2)))  # the averaged weights were put back
    assert_same(weights(run), saved)


def test_data_loading_processes_leave_it_to_the_trainer() -> None:
    ignore_interrupts(0)
    for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        assert signal.getsignal(signum) is signal.SIG_IGN


COMMAND = textwrap.dedent(
    """
    import sys
    sys.path.insert(0, sys.argv[1])
    from tsdsr.cli import app
    app(sys.argv[2:])
    """
)


def start_late() -> None:
    time.sleep(0.3)
    ignore_interrupts(0)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGTERM])


def test_a_signal_does_not_end_a_data_loading_process_that_just_starts() -> None:
    with interrupts_blocked():
        process = multiprocessing.get_context("fork").Process(target=start_late)
        process.start()
    os.kill(process.pid, signal.SIGTERM)  # type: ignore[arg-type]
    process.join(60)
    assert process.exitcode == 0


def test_data_loading_processes_start_with_signals_blocked() -> None:
    masks = []

    class Loader:
        def __iter__(self) -> Iterator[int]:
            masks.append(signal.pthread_sigmask(signal.SIG_BLOCK, []))
            return iter([1])

    with _loading(Loader()) as batches:  # type: ignore[arg-type]
        assert list(batches) == [1]
    assert masks[0] >= {signal.SIGINT, signal.SIGTERM, signal.SIGHUP}
    assert signal.SIGTERM not in signal.pthread_sigmask(signal.SIG_BLOCK, [])


@pytest.mark.parametrize(("signum", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_the_command_exits_with_the_status_of_the_signal(
    photo_folder: Path, tmp_path: Path, signum: signal.Signals, code: int
) -> None:
    script, out = tmp_path / "run.py", tmp_path / "run"
    script.write_text(COMMAND)
    arguments = [
        "train", "student", "--recipe", "mini_smoke", "--photos", str(photo_folder), "-o", str(out),
        "--tracker", "none", "--device", "cpu", "--dtype", "fp32", "--workers", "1", "--set", "phases.1.steps=100000",
        "--set", "checkpoint_every=100000", "--set", "validate_every=100000",
    ]  # fmt: skip
    command = [sys.executable, str(script), str(ROOT / "src"), *arguments]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with started(command, text=True, preexec_fn=as_in_a_terminal, **pipes) as process:
        deadline = time.monotonic() + 120
        while not (out / "log.jsonl").is_file():
            assert time.monotonic() < deadline
            assert process.poll() is None, process.communicate()
            time.sleep(0.1)
        os.killpg(process.pid, signum)  # as a terminal does: to the data loading process, too
        _, said = process.communicate(timeout=120)
    assert process.returncode == code, said
    assert "repeat the run to continue" in said
    assert "Traceback" not in said
    assert len(list(out.glob("checkpoint-*.pt"))) == 1
    assert not (out / "run.lock").exists()
