"""A sharded run that is interrupted and continued, by as many processes or by others."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path

import torch
from torch import Tensor

from tests.process_group import in_processes
from tests.training.tiny import config, trainer
from tsdsr.training.checkpoint import newest_checkpoint, read_tensors

CONFIG = config(phases=tuple(dataclasses.replace(phase, batch_size=4) for phase in config().phases))


def run(photos: Path, *parts: tuple[Path, int | None]) -> None:
    """Train in a folder up to a step, several times; the others start from what is there."""
    for out, until in parts:
        trainer(photos, out, CONFIG, shard="full").run(until)


def state(out: Path) -> dict[str, Tensor]:
    """Everything that the newest checkpoint holds, on one process."""
    found = newest_checkpoint(out)
    assert found is not None
    assert found.facts["step"] == CONFIG.total_steps
    whole = trainer(out.parent / "photos", out, CONFIG)
    got = whole._state().tensors()
    read_tensors(found, got)
    assert {name.split(".")[0] for name in got} == {"student", "fake", "average"}
    return {name: tensor.detach().clone() for name, tensor in got.items()}


def assert_close(got: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert got.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(got[name], value, rtol=2e-3, atol=1e-5, msg=name)


def losses(out: Path) -> list[str]:
    """The lines of a log, without speed and memory."""
    return [line.partition(', "steps_per_second"')[0] for line in (out / "log.jsonl").read_text().splitlines()]


def test_a_sharded_run_continues_to_the_bit_and_on_other_processes_within_rounding(
    photo_folder: Path, tmp_path: Path
) -> None:
    whole, parts, four, one = (tmp_path / name for name in ("whole", "parts", "four", "one"))
    in_processes(2, tmp_path / "first", run, photo_folder, (whole, None), (parts, 4))
    for copy in (four, one):
        shutil.copytree(parts, copy)
    in_processes(2, tmp_path / "second", run, photo_folder, (parts, None))
    in_processes(4, tmp_path / "third", run, photo_folder, (four, None))
    trainer(photo_folder, one, CONFIG).run()
    expected = state(whole)
    got = state(parts)
    assert [k for k in expected if not torch.equal(got[k], expected[k])] == []
    assert losses(parts) == losses(whole)
    assert_close(state(four), expected)
    assert_close(state(one), expected)


def test_a_run_of_one_process_continues_sharded(photo_folder: Path, tmp_path: Path) -> None:
    out, whole = tmp_path / "run", tmp_path / "whole"
    trainer(photo_folder, out, CONFIG).run(4)
    in_processes(2, tmp_path / "group", run, photo_folder, (out, None))
    trainer(photo_folder, whole, CONFIG).run()
    assert_close(state(out), state(whole))
