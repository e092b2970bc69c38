"""The loss against patterns of single pixels and coloured fringes."""

from __future__ import annotations

import pytest
import torch

from tsdsr.training.weave import binomial_blur, smoothness, weave_loss, without_finest_detail


def test_what_alternates_from_pixel_to_pixel_is_removed() -> None:
    axis = torch.arange(32)
    smooth = (0.5 + 0.2 * torch.sin(axis / 5)).expand(1, 3, 32, 32)
    expected = without_finest_detail(smooth)
    for weave in (axis[:, None] + axis, axis[:, None].expand(32, 32), axis.expand(32, 32)):
        found = without_finest_detail(smooth + 0.1 * (weave % 2 - 0.5))
        torch.testing.assert_close(found, expected, atol=1e-6, rtol=0)


def test_chroma_is_blurred_more_than_luma() -> None:
    """A line, five pixels wide: as luma it keeps its middle; as chroma without luma it spreads."""
    line = torch.zeros(32)
    line[14:19] = 0.2
    luma = line.expand(1, 3, 32, 32)
    chroma = torch.stack([line, -line * 0.2989 / 0.587, torch.zeros(32)])[None, :, None].expand(1, 3, 32, 32)
    assert without_finest_detail(luma)[0, 0, 16, 16].item() == pytest.approx(0.2, abs=1e-4)
    assert without_finest_detail(chroma)[0, 0, 16, 16].item() == pytest.approx(0.2 * 238 / 256, abs=1e-4)


def test_flat_regions_keep_their_colour() -> None:
    x = torch.rand(2, 3, 1, 1).expand(2, 3, 20, 20)
    torch.testing.assert_close(without_finest_detail(x), x)


def test_autocast_does_not_round_images() -> None:
    x = torch.rand(1, 3, 16, 16)
    with torch.autocast("cpu", torch.bfloat16):
        found = without_finest_detail(x)
    torch.testing.assert_close(found, without_finest_detail(x), atol=0, rtol=0)


def test_a_binomial_blur_has_the_variance_it_says() -> None:
    point = torch.zeros(1, 1, 33, 33)
    point[..., 16, 16] = 1
    spread = binomial_blur(point, 8)[0, 0]
    at = torch.arange(33.0) - 16
    assert spread.sum().item() == pytest.approx(1)
    assert (spread.sum(0) * at**2).sum().item() == pytest.approx(2)
    assert (spread.sum(1) * at**2).sum().item() == pytest.approx(2)


def test_a_checkerboard_on_a_slope_counts_and_the_slope_does_not() -> None:
    axis = torch.arange(32)
    slope = (axis / 64).expand(1, 3, 32, 32)
    board = 0.1 * ((axis[:, None] + axis) % 2 - 0.5)
    smooth = smoothness(slope).mean().item()
    assert smooth > 0.75
    assert weave_loss(slope + board, slope).item() == pytest.approx(0.05 * smooth, rel=1e-3)
    assert (slope - without_finest_detail(slope))[..., 4:-4, 4:-4].abs().max() < 1e-4


def test_invented_luma_is_allowed_in_texture_and_invented_chroma_nowhere() -> None:
    generator = torch.Generator().manual_seed(0)
    truth = 0.5 + 0.1 * torch.randn(1, 1, 32, 32, generator=generator).expand(1, 3, 32, 32)
    luma = 0.05 * torch.randn(1, 1, 32, 32, generator=generator).expand(1, 3, 32, 32)
    chroma = luma * torch.tensor([1.0, -0.2989 / 0.587, 0.0])[:, None, None]
    flat = torch.full_like(truth, 0.5)
    assert weave_loss(truth + luma, truth) < 0.15 * weave_loss(flat + luma, flat)
    assert weave_loss(truth + chroma, truth).item() == pytest.approx(weave_loss(flat + chroma, flat).item(), rel=0.01)


def test_the_right_detail_costs_nothing_and_wrong_detail_more_than_none() -> None:
    generator = torch.Generator().manual_seed(0)
    truth, wrong = (0.5 + 0.05 * torch.randn(1, 3, 32, 32, generator=generator) for _ in range(2))
    none = torch.full_like(truth, 0.5)
    assert weave_loss(truth, truth).item() == 0
    assert weave_loss(wrong, truth) > 1.2 * weave_loss(none, truth)
