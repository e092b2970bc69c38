from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

from tsdsr.errors import InvalidInputError
from tsdsr.pipeline.noise import Generator, NoiseField, draw_seed, noise_at, noise_fields


def field(seed: int = 3) -> NoiseField:
    return NoiseField(draw_seed(seed))


def test_a_window_holds_what_the_plane_holds_there() -> None:
    plane = field().window(0, 0, (4, 200, 150))
    assert plane.dtype == np.float32
    assert np.array_equal(field().window(60, 33, (4, 80, 100)), plane[:, 60:140, 33:133])


def test_it_is_normal_and_without_repetition() -> None:
    plane = field().window(0, 0, (2, 256, 256))
    assert abs(float(plane.mean())) < 0.02
    assert abs(float(plane.std()) - 1) < 0.02
    blocks = plane.reshape(2, 4, 64, 4, 64).swapaxes(2, 3).reshape(32, -1)
    assert np.abs(np.corrcoef(blocks) - np.eye(32)).max() < 0.1


@pytest.mark.parametrize("make", [int, np.random.default_rng, torch.Generator().manual_seed])
def test_the_same_seed_gives_the_same_noise_and_each_sample_its_own(make: Callable[[int], Generator]) -> None:
    first, second = noise_fields(make(3), 2)
    assert [first.seed, second.seed] == [again.seed for again in noise_fields(make(3), 2)]
    assert first.seed == draw_seed(make(3))
    assert len({first.seed, second.seed, field(4).seed}) == 3


@pytest.mark.parametrize("seed", [0, 3, 2**32 - 1, 2**32 + 5, 2**63 - 1])
def test_a_number_gives_what_a_generator_of_torch_with_that_seed_gives(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    assert [f.seed for f in noise_fields(seed, 3)] == [draw_seed(generator) for _ in range(3)]


def test_noise_of_a_batch_is_ordered_by_tile_then_sample() -> None:
    fields = noise_fields(1, 2)
    noise = noise_at(fields, [(0, 0), (8, 4)])((4, 3, 5, 6))
    assert np.array_equal(noise[1], fields[1].window(0, 0, (3, 5, 6)))
    assert np.array_equal(noise[2], fields[0].window(8, 4, (3, 5, 6)))


def test_numbers_of_numpy_are_seeds() -> None:
    assert noise_fields(np.int64(7), 2)[1].seed == noise_fields(7, 2)[1].seed  # type: ignore[arg-type]


@pytest.mark.parametrize("wrong", [1.5, "7", [7]])
def test_what_is_no_generator_is_named(wrong: Generator) -> None:
    with pytest.raises(InvalidInputError, match=f"a generator of numpy or torch, got {type(wrong).__name__}"):
        noise_fields(wrong, 1)
