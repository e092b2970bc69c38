"""Losses on images: LPIPS, DISTS, and the penalty on grid artefacts."""

from __future__ import annotations

import importlib.util

import pytest
import torch

from tsdsr.errors import MissingDependencyError
from tsdsr.training.image_losses import dists_distance, grid_loss, lpips_distance


def test_its_absence_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "lpips", None)
    with pytest.raises(MissingDependencyError, match=r"\.\[train\]"):
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
    with pytest.raises(MissingDependencyError, match=r"\.\[train,eval\]"):
        dists_distance()


def test_the_grid_term_sees_a_grid_and_nothing_else() -> None:
    truth = torch.rand(4, 3, 64, 64)
    grid = torch.zeros(64, 64)
    grid[::4, ::4] = 0.1
    assert grid_loss(truth, truth, 8).item() == 0
    assert grid_loss(truth + 0.3, truth, 8).item() == pytest.approx(0, abs=1e-6)  # a shift in brightness is no grid
    mean = 0.1 / 16
    assert grid_loss(truth + grid, truth, 8).item() == pytest.approx((0.1 - mean + 15 * mean) / 16, rel=1e-4)
    once = torch.zeros(4, 3, 64, 64)
    once[0, :, 8, 8] = 0.1
    assert grid_loss(truth + once, truth, 8).item() < 1e-4  # content that does not repeat


def test_the_grid_term_has_a_gradient() -> None:
    truth = torch.rand(2, 3, 16, 16)
    restored = (truth + 0.1 * torch.rand(2, 3, 16, 16)).requires_grad_()
    grid_loss(restored, truth, 8).backward()  # type: ignore[no-untyped-call]
    assert restored.grad is not None
    assert restored.grad.abs().sum() > 0


def test_measured_against_its_surroundings_a_grid_in_a_flat_region_counts() -> None:
    """A faint grid where nothing else is wrong, beside large errors without a grid: the relative term finds it."""
    torch.manual_seed(0)
    truth = torch.full((4, 3, 64, 64), 0.5)
    busy = torch.zeros_like(truth)
    busy[..., 32:] = 0.2 * torch.randn(4, 3, 64, 32)
    grid = torch.zeros_like(truth)
    grid[..., ::4, :28:4] = 0.01

    def excess(relative: bool) -> float:
        return (
            grid_loss(truth + busy + grid, truth, 8, relative) / grid_loss(truth + busy, truth, 8, relative)
        ).item() - 1

    assert excess(relative=True) > 1
    assert excess(relative=False) < 0.5


def test_the_relative_grid_term_is_finite_without_errors() -> None:
    truth = torch.rand(1, 3, 32, 32)
    restored = truth.clone().requires_grad_()
    loss = grid_loss(restored, truth, 8, relative=True)
    loss.backward()  # type: ignore[no-untyped-call]
    assert loss.item() == 0
    assert restored.grad is not None
    assert restored.grad.isfinite().all()


def test_grids_that_differ_between_images_do_not_cancel() -> None:
    """One image has the negative of the other's grid: only image by image there is anything to see."""
    torch.manual_seed(0)
    truth = torch.rand(2, 3, 64, 64)
    grid = torch.zeros(64, 64)
    grid[::4, ::4] = 0.1
    restored = truth + torch.stack([grid, -grid])[:, None]
    assert grid_loss(restored, truth, 8).item() == pytest.approx(0, abs=1e-6)
    assert grid_loss(restored, truth, 8, relative=True).item() > 0.3


def test_smooth_errors_hide_no_grid() -> None:
    """A faint grid on errors ten times as strong, but smooth: the relative term sees it well."""
    generator = torch.Generator().manual_seed(0)
    truth = torch.full((4, 3, 96, 96), 0.5)
    coarse = 0.1 * torch.randn(4, 3, 10, 10, generator=generator)
    smooth = torch.nn.functional.interpolate(coarse, size=(96, 96), mode="bicubic")
    grid = torch.zeros(96, 96)
    grid[::4, ::4] = 0.01

    def times(relative: bool) -> float:
        with_grid, without = (grid_loss(truth + e, truth, 8, relative) for e in (smooth + grid, smooth))
        return (with_grid / without).item()

    assert times(relative=True) > 10
    assert times(relative=False) < 3
