from __future__ import annotations

import importlib.util

import pytest
import torch

from tsdsr.errors import MissingDependencyError
from tsdsr.training.losses import dists_distance, lpips_distance


def test_its_absence_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "lpips", None)
    with pytest.raises(MissingDependencyError, match=r"tsdsr\[train\]"):
        lpips_distance()


@pytest.mark.skipif(importlib.util.find_spec("lpips") is None, reason="lpips is not installed (extra: train)")
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_it_is_a_distance_with_a_gradient() -> None:
    try:
        distance = lpips_distance("alex")
    except OSError as error:
        pytest.skip(f"the backbone's weights cannot be had here: {error}")
    x, y = torch.rand(2, 3, 64, 64), torch.rand(2, 3, 64, 64, requires_grad=True)
    assert distance(x, x).item() == 0
    distance(x, y).backward()
    assert y.grad is not None
    assert y.grad.abs().sum() > 0


def test_dists_names_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "pyiqa", None)
    with pytest.raises(MissingDependencyError, match=r"tsdsr\[train,eval\]"):
        dists_distance()
