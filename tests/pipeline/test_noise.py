from __future__ import annotations

import torch

from tsdsr.pipeline.noise import NoiseField


def field(seed: int = 3) -> NoiseField:
    return NoiseField(torch.Generator().manual_seed(seed))


def test_a_window_holds_what_the_plane_holds_there() -> None:
    plane = field().window(0, 0, (4, 200, 150))
    assert torch.equal(field().window(60, 33, (4, 80, 100)), plane[:, 60:140, 33:133])


def test_it_is_normal_and_without_repetition() -> None:
    plane = field().window(0, 0, (2, 256, 256))
    assert abs(float(plane.mean())) < 0.02
    assert abs(float(plane.std()) - 1) < 0.02
    blocks = plane.unfold(1, 64, 64).unfold(2, 64, 64).flatten(1, 2).flatten(2)
    correlation = torch.corrcoef(blocks.flatten(0, 1))
    assert (correlation - torch.eye(len(correlation))).abs().max() < 0.1


def test_seeds_and_draws_differ() -> None:
    generator = torch.Generator().manual_seed(3)
    first, second = NoiseField(generator), NoiseField(generator)
    assert first.seed == field().seed
    assert len({first.seed, second.seed, field(4).seed}) == 3
