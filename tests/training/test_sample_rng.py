"""Random numbers per sample."""

from __future__ import annotations

import pytest
import torch

from tsdsr.training.sample_rng import SampleRNG


@pytest.mark.cuda
def test_draws_on_a_device_belong_to_samples_too() -> None:
    like = torch.zeros(1, device="cuda")
    whole, part = SampleRNG(0, 1, [5, 6, 7]), SampleRNG(0, 1, [6])
    first, second = whole.normal((2, 3), like), whole.normal((2, 3), like)
    assert first.device == like.device
    assert torch.equal(first[1:2], part.normal((2, 3), like))
    assert not torch.equal(first, second)
    assert torch.equal(whole.uniform(), SampleRNG(0, 1, [5, 6, 7]).uniform())


def test_draws_belong_to_samples() -> None:
    like = torch.zeros(1)
    whole, part = SampleRNG(0, 1, [5, 6, 7]), SampleRNG(0, 1, [6])
    assert torch.equal(whole.normal((2, 3), like)[1:2], part.normal((2, 3), like))
    assert torch.equal(whole.uniform(4)[:, 1:2], part.uniform(4))
    assert not torch.equal(SampleRNG(0, 2, [5]).uniform(), SampleRNG(0, 1, [5]).uniform())
    assert not torch.equal(SampleRNG(1, 1, [5]).uniform(), SampleRNG(0, 1, [5]).uniform())
    drawn = SampleRNG(0, 3, range(2000)).integers(50, 53)
    assert sorted(set(drawn.tolist())) == [50, 51, 52, 53]
    assert all(400 < (drawn == v).sum() < 600 for v in (50, 51, 52, 53))
