"""Runs sharded over two and four processes on the CPU (gloo) equal those of one process."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tests.conftest import tiny_mmdit
from tests.process_group import in_processes
from tests.training.sharded_runs import RUNS, do_runs, make, stored, whole_run
from tests.training.tiny import config, trainer
from tsdsr.errors import ConfigError
from tsdsr.training.run_log import make_accelerator
from tsdsr.training.sharding import gathered, gathered_network, local_part, sharded_like

TWO = ["mini", "mini in host memory", "sd3", "sd3 in 16 bits", "flux2", "mini teacher", "sd3 teacher"]
FOUR = ["mini", "sd3 on four"]
NOT_MEANS = ("rms", "cosine", "gap", "per_second", "memory")
"""Parts of the names of figures that are measured on the first process's samples, or are no means over samples."""


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    import numpy as np
    from PIL import Image

    folder = tmp_path_factory.mktemp("photos")
    for i in range(6):
        pixels = np.random.default_rng(i).integers(0, 256, (20, 24, 3), dtype=np.uint8)
        Image.fromarray(pixels).resize((96, 80)).save(folder / f"{i}.png")
    return folder


@pytest.fixture(scope="module")
def runs(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[int, Path]:
    """Folders of the sharded runs by number of processes."""
    folders = {}
    for processes, names in ((2, TWO), (4, FOUR)):
        folders[processes] = tmp_path_factory.mktemp(f"on-{processes}")
        group = tmp_path_factory.mktemp("groups") / str(processes)
        in_processes(processes, group, do_runs, photos, folders[processes], names, timeout=400)
    return folders


def records(folder: Path) -> Iterator[dict[str, float]]:
    """The logged figures that are means over all samples."""
    for line in (folder / "log.jsonl").read_text().splitlines():
        yield {k: v for k, v in json.loads(line).items() if not any(part in k for part in NOT_MEANS)}


@pytest.mark.parametrize(("processes", "name"), [*((2, name) for name in TWO), *((4, name) for name in FOUR)])
def test_a_sharded_run_equals_one_process(
    runs: dict[int, Path], photos: Path, tmp_path: Path, processes: int, name: str
) -> None:
    one = make(name, photos, tmp_path)
    start = stored(one)
    one.run()
    exact = one.dtype == torch.float32
    expected, found = list(records(tmp_path)), list(records(runs[processes] / name))
    assert len(expected) == len(found) >= 2
    for a, b in zip(expected, found, strict=True):
        assert a.keys() == b.keys()
        for key, value in a.items():
            near = 1e-5 if "loss" in key else 2e-4
            assert b[key] == pytest.approx(value, rel=near if exact else 0.05, abs=1e-6), key
    # Adam turns rounding errors of weights without a gradient into steps, so single weights may differ.
    average, wanted = load_file(runs[processes] / f"{name}.safetensors"), stored(one)
    assert average.keys() == wanted.keys()
    error, change = (
        torch.cat([(average[key] - other[key]).flatten() for key in wanted]).norm() for other in (wanted, start)
    )
    assert error < (1e-3 if exact else 0.15) * change


@pytest.mark.parametrize("processes", [2, 4])
def test_each_process_holds_its_share_of_the_weights(runs: dict[int, Path], processes: int) -> None:
    for name in {2: TWO, 4: FOUR}[processes]:
        facts = [json.loads((runs[processes] / f"{name}-{rank}.json").read_text()) for rank in range(processes)]
        assert all(fact["switching changed nothing"] for fact in facts)
        held, whole = zip(*(fact["sizes"] for fact in facts), strict=True)
        assert sum(held) == whole[0]
        assert max(held) < 1.2 * whole[0] / processes


def test_a_run_goes_on_in_one_process(runs: dict[int, Path], photos: Path) -> None:
    """The sharded checkpoint gives one process the weights that the sharded run has stored."""
    again = make("sd3", photos, runs[2] / "sd3")
    assert again.step == 3
    average = load_file(runs[2] / "sd3.safetensors")
    for key, tensor in stored(again).items():
        assert torch.equal(average[key], tensor), key


def test_the_stored_pipeline_is_that_of_one_process(runs: dict[int, Path], photos: Path, tmp_path: Path) -> None:
    one, two = whole_run(photos, tmp_path, None), runs[2] / "whole" / "pipeline-00000002"
    files = {path.relative_to(one) for path in one.rglob("*") if path.is_file()}
    assert files == {path.relative_to(two) for path in two.rglob("*") if path.is_file()}
    for file in sorted(file for file in files if file.suffix == ".safetensors"):
        expected, found = load_file(one / file), load_file(two / file)
        for name, tensor in expected.items():
            assert found[name].dtype == tensor.dtype
            torch.testing.assert_close(found[name], tensor, rtol=2e-3, atol=2e-5, msg=f"{file}: {name}")


def test_whole_tensors_and_networks_stay_themselves() -> None:
    tensor, network = torch.ones(2), tiny_mmdit()
    assert local_part(tensor) is gathered(tensor) is sharded_like(tensor, torch.zeros(2)) is tensor
    assert gathered_network(network, first=True) is network


def test_what_cannot_be_sharded_is_refused_before_training(photo_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="torchrun"):
        trainer(photo_folder, tmp_path, config(), shard="full", accelerator=make_accelerator(tmp_path, "cpu"))


def test_every_run_is_done() -> None:
    assert {*TWO, *FOUR} == set(RUNS)
