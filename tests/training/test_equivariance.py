"""The loss on turned copies: what is compared, and its effect on a step."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.training.golden_runs import MadeUpSamples
from tests.training.observe import observe, single
from tsdsr.errors import ConfigError
from tsdsr.training.equivariance import TURNS, equivariance_loss, turned, with_turned_half
from tsdsr.training.failures import _relief
from tsdsr.training.launch import check_fit
from tsdsr.training.samples import TrainingSample
from tsdsr.training.student import StudentTrainer

IMAGE = torch.tensor([[1.0, 2.0], [3.0, 4.0]])


def test_the_eight_turns_of_an_image() -> None:
    found = [turned(IMAGE, turn).int().tolist() for turn in range(TURNS)]
    quarter_turns = [[[1, 2], [3, 4]], [[2, 4], [1, 3]], [[4, 3], [2, 1]], [[3, 1], [4, 2]]]
    mirrored = [[[2, 1], [4, 3]], [[1, 3], [2, 4]], [[3, 4], [1, 2]], [[4, 2], [3, 1]]]
    assert found == quarter_turns + mirrored


def batch(count: int) -> TrainingSample:
    samples = [MadeUpSamples(count)[i] for i in range(count)]
    x_lq, x_hq = (torch.stack([getattr(sample, name) for sample in samples]) for name in ("x_lq", "x_hq"))
    prompts, keys = ([f"{name} {i}" for i in range(count)] for name in ("prompt", "crop"))
    return TrainingSample(torch.arange(count), x_lq, x_hq, prompts, keys)


@pytest.mark.parametrize("count", [4, 5])
def test_the_second_half_of_a_batch_is_the_first_one_turned(count: int) -> None:
    whole = batch(count)
    found = with_turned_half(whole, 3)
    for name in ("x_lq", "x_hq"):
        images: Tensor = getattr(whole, name)
        torch.testing.assert_close(getattr(found, name), torch.cat([images[:2], torch.rot90(images[:2], 3, (-2, -1))]))
    assert (found.item.tolist(), found.prompt) == ([0, 1, 2, 3], ["prompt 0", "prompt 1"] * 2)
    assert found.key == ["crop 0", "crop 1", "", ""]


@pytest.mark.parametrize(("turn", "other"), [(1, 3), (5, 4)])
def test_the_loss_sees_what_does_not_turn_with_the_image(turn: int, other: int) -> None:
    images = with_turned_half(batch(4), turn).x_lq
    assert equivariance_loss(1 - images, turn) == 0
    assert equivariance_loss(1 - images, other) > 0.01
    stripes = torch.zeros_like(images)
    stripes[..., ::4] = 0.2  # on a quarter of the columns, and turned on a quarter of the rows
    assert equivariance_loss(images + stripes, turn) == pytest.approx(0.2 * 2 * 0.25 * 0.75, rel=1e-3)


@pytest.mark.parametrize(
    ("processes", "accumulation", "fits"), [(2, 1, True), (1, 2, True), (2, 2, False), (4, 1, False)]
)
def test_a_micro_batch_has_two_images(processes: int, accumulation: int, fits: bool) -> None:
    config = single(equivariance_weight=1.0, batch_size=4, config={"accumulation": accumulation})
    plain = single(batch_size=4, config={"accumulation": accumulation})
    check_fit(plain, processes, torch.float32)
    if fits:
        check_fit(config, processes, torch.float32)
        return
    with pytest.raises(ConfigError, match=r"phase 1 needs at least 2 images .*: batch_size 4 in 4 parts"):
        check_fit(config, processes, torch.float32)


def test_running_out_of_memory_advises_no_split_into_single_images() -> None:
    assert "accumulation=2" in _relief(single(equivariance_weight=1.0, batch_size=4), 1)
    assert "smaller crops" in _relief(single(equivariance_weight=1.0, batch_size=4), 2)
    assert "accumulation=2" in _relief(single(batch_size=4), 2)


def uneven(run: StudentTrainer) -> None:
    """Let the student draw a pattern of its own: a new `mini` gives its input back."""
    with torch.no_grad():
        for parameter in run.networks.student.parameters():
            parameter.add_(0.05 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(3)))


def test_its_weight_scales_the_loss_and_its_gradient(tmp_path: Path) -> None:
    settings: dict[str, Any] = {"l1_weight": 1.0, "batch_size": 4}
    three = [observe(single(equivariance_weight=w, **settings), tmp_path, uneven) for w in (1.0, 2.0, 4.0)]
    losses, term = [seen.records[0]["loss/student"] for seen in three], three[0].records[0]["loss/equivariance"]
    assert term > 1e-3
    assert losses[1] - losses[0] == pytest.approx(term, rel=1e-3)
    assert losses[2] - losses[1] == pytest.approx(2 * term, rel=1e-3)
    g = [seen.gradients["student"][0] for seen in three]
    torch.testing.assert_close(g[2] - g[1], 2 * (g[1] - g[0]), rtol=1e-3, atol=1e-5)
    assert (g[1] - g[0]).norm() > 1e-5
    plain = observe(single(**settings), tmp_path, uneven).records[0]
    assert "loss/equivariance" not in plain
    assert plain["loss/l1"] != pytest.approx(three[0].records[0]["loss/l1"], rel=1e-4)


def test_steps_take_different_turns(tmp_path: Path) -> None:
    """Turns are found from what the student sees: the second half of each batch against the first."""
    seen: list[Tensor] = []

    def prepare(run: StudentTrainer) -> None:
        run.networks.student.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].clone()))

    observe(single(12, l1_weight=1.0, equivariance_weight=1.0, batch_size=4), tmp_path, prepare)
    found = []
    for x in seen:
        (turn,) = [t for t in range(TURNS) if torch.equal(turned(x[:2], t), x[2:])]
        found.append(turn)
    assert len(found) == 12
    assert 0 not in found
    assert len(set(found)) > 3
