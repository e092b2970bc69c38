"""Checkpoints of sharded runs: written by any number of processes, read by any other; failures are common ones."""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate import Accelerator
from diffusers.training_utils import EMAModel
from torch import Tensor, nn
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor

from tests.process_group import in_processes
from tests.training.tiny import config
from tsdsr.errors import FileWriteError, TrainingError
from tsdsr.training.checkpoint import newest_checkpoint
from tsdsr.training.optim import RoleOptimizer
from tsdsr.training.processes import require_equal
from tsdsr.training.run_checkpoints import RunCheckpoints
from tsdsr.training.run_state import RunState

CPU = torch.device("cpu")


def state(sharded: bool) -> RunState:
    """Two roles, one with weights that do not divide evenly, one whole with buffers that training changes."""
    torch.manual_seed(0)
    student = nn.Sequential(nn.Linear(5, 7), nn.Conv2d(3, 5, 3), nn.Linear(7, 1))
    head = nn.utils.parametrizations.spectral_norm(nn.Conv2d(3, 4, 3)).to(memory_format=torch.channels_last)
    if sharded:
        fully_shard(student[0])
        fully_shard(student)
    roles = {
        name: RoleOptimizer(module, dict(module.named_parameters()), config(), CPU, torch.float32)
        for name, module in (("student", student), ("head", head))
    }
    return RunState(roles, EMAModel(parts(roles["student"]), decay=0.5), "student")


def parts(role: RoleOptimizer) -> list[nn.Parameter]:
    """This process's parts of the weights, which are what is averaged."""
    return [nn.Parameter(p.to_local()) if isinstance(p, DTensor) else p for p in role.parameters]


def train(run: RunState, steps: int) -> None:
    """Take steps with gradients that are the same in every process. One weight never has a gradient."""
    for _ in range(steps):
        for number, role in enumerate(run.roles.values()):
            for p in role.parameters[1:]:
                p.grad = torch.sin(100 * p.detach() + number)
            role.step(1e-2)
        run.roles["head"].module(torch.ones(1, 3, 4, 4))  # spectral normalisation changes its buffers
        assert run.ema is not None
        run.ema.step(parts(run.roles["student"]))


def whole(run: RunState) -> dict[str, Tensor]:
    """The state's tensors, gathered."""
    return {k: (t.full_tensor() if isinstance(t, DTensor) else t).clone() for k, t in run.tensors().items()}


def assert_holds(run: RunState, reference: Path, exactly: bool = True) -> None:
    """Compare with a stored state. Vectorised updates round the ends of shards in another way than whole tensors."""
    expected = torch.load(reference, weights_only=True)
    got = whole(run)
    assert got.keys() == expected.keys()
    for name, value in expected.items():
        rtol, atol = (0, 0) if exactly else (1e-5, 1e-7)
        torch.testing.assert_close(got[name], value, rtol=rtol, atol=atol, msg=name)


def save(run: RunState, folder: Path, step: int) -> None:
    RunCheckpoints(folder, Accelerator(cpu=True)).save(step, {"step": step, **run.facts()}, run.tensors())


def restore(run: RunState, folder: Path) -> int:
    checkpoints = RunCheckpoints(folder, Accelerator(cpu=True))
    found = checkpoints.newest()
    assert found is not None
    run.prepare(found)
    checkpoints.restore(found, run.tensors())
    assert run.ema is not None
    assert run.ema.optimization_step == found.facts["averaged_steps"]
    return checkpoints.saved


@contextmanager
def failing_writer() -> Iterator[None]:
    """The second process has no space left."""
    from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageWriter

    def write_data(*_: Any) -> Any:
        raise OSError(28, "No space left on device")

    with pytest.MonkeyPatch.context() as patch:
        if Accelerator(cpu=True).process_index == 1:
            patch.setattr(HuggingFaceStorageWriter, "write_data", write_data)
        yield


def two_processes(folder: Path) -> None:
    """Save, read both forms, continue; then everything that must be refused."""
    accelerator = Accelerator(cpu=True)
    run = state(sharded=True)
    local = sum(p.to_local().numel() for p in run.roles["student"].parameters)
    assert local < 0.7 * sum(p.numel() for p in run.roles["student"].parameters)
    RunCheckpoints(folder / "shards", accelerator).check_folder(run.tensors())
    for step in (1, 2, 3):
        train(run, 1)
        save(run, folder / "shards", step)
    assert_holds(run, folder / "reference-3", exactly=False)
    kept = whole(run)
    if accelerator.is_main_process:
        torch.save(kept, folder / "kept-3")
    accelerator.wait_for_everyone()
    for form, reference in (("shards", "kept-3"), ("file", "reference-3")):
        again = state(sharded=True)
        assert restore(again, folder / form) == 3
        assert_holds(again, folder / reference)
    train(again, 2)
    assert_holds(again, folder / "reference-5", exactly=False)

    with failing_writer(), pytest.raises(FileWriteError, match=r"process 1 cannot write its part \(.*No space left"):
        save(run, folder / "shards", 4)
    apart = folder / f"host-{accelerator.process_index}"
    with pytest.raises(TrainingError, match="on a disk that all hosts share"):
        RunCheckpoints(apart, accelerator).check_folder(run.tensors())
    facts = {"seed": accelerator.process_index, "phases": [{"steps": 1}]}
    with pytest.raises(TrainingError, match=r"other settings than the first \(seed: 0 there, 1 here\)"):
        require_equal(accelerator, facts, "settings")


def two_whole_processes(folder: Path) -> None:
    """Without sharding the first process's folder counts: the others may have none."""
    number = Accelerator(cpu=True).process_index
    run = state(sharded=False)
    assert restore(run, folder / ("shards" if number == 0 else "nothing")) == 3
    assert_holds(run, folder / "kept-3")
    save(run, folder / f"plain-{number}", 3)


def four_processes(folder: Path) -> None:
    for form, reference in (("shards", "kept-3"), ("file", "reference-3")):
        run = state(sharded=True)
        assert restore(run, folder / form) == 3
        assert_holds(run, folder / reference)
    train(run, 2)
    assert_holds(run, folder / "reference-5", exactly=False)
    save(run, folder / "four", 5)


class Bomb:
    """Unpickling it makes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return Path.touch, (self.path,)


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the same state: stored by two processes, by one, and for comparison."""
    folder = tmp_path_factory.mktemp("stored")
    run = state(sharded=False)
    train(run, 3)
    save(run, folder / "file", 3)
    torch.save(whole(run), folder / "reference-3")
    train(run, 2)
    torch.save(whole(run), folder / "reference-5")
    in_processes(2, folder / "two", two_processes, folder)
    return folder


def test_two_processes_keep_the_newest_two_and_leave_nothing_else(stored: Path) -> None:
    assert sorted(p.name for p in (stored / "shards").iterdir()) == ["checkpoint-00000002", "checkpoint-00000003"]
    names = sorted(p.name for p in (stored / "shards" / "checkpoint-00000003").iterdir())
    assert [name.partition("-")[0] for name in names] == ["run.json", "shard", "shard"]


def test_one_process_reads_what_two_have_written_and_no_pickle(stored: Path, tmp_path: Path) -> None:
    bomb = stored / "shards" / "checkpoint-00000003" / ".metadata"  # which torch unpickles for its own format
    bomb.write_bytes(pickle.dumps(Bomb(tmp_path / "unpickled")))
    run = state(sharded=False)
    assert restore(run, stored / "shards") == 3
    assert_holds(run, stored / "kept-3")
    train(run, 2)
    assert_holds(run, stored / "reference-5", exactly=False)
    assert not (tmp_path / "unpickled").exists()
    bomb.unlink()


def test_four_processes_read_what_two_or_one_have_written(stored: Path, tmp_path: Path) -> None:
    in_processes(4, tmp_path / "group", four_processes, stored)
    run = state(sharded=False)
    assert restore(run, stored / "four") == 5
    assert_holds(run, stored / "reference-5", exactly=False)


def test_only_the_first_process_needs_the_folder_of_whole_checkpoints(stored: Path, tmp_path: Path) -> None:
    in_processes(2, tmp_path / "group", two_whole_processes, stored)
    assert newest_checkpoint(stored / "plain-0") is not None
    assert not (stored / "plain-1").exists()


def test_a_missing_or_damaged_part_is_named(stored: Path, tmp_path: Path) -> None:
    import shutil

    folder = tmp_path / "checkpoint-00000003"
    shutil.copytree(stored / "shards" / "checkpoint-00000003", folder)
    part = next(folder.glob("shard-00002-*"))
    part.write_bytes(part.read_bytes()[:-8])
    with pytest.raises(TrainingError, match=r"checkpoint-00000003: cannot be read \(.*\); delete it to resume"):
        newest_checkpoint(tmp_path)
    part.unlink()
    with pytest.raises(TrainingError, match="1 of its 2 parts are there"):
        newest_checkpoint(tmp_path)
