"""Validation of a student: fixed crops at the main scale, metrics with values computed by hand."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path

import pytest
import torch

from tsdsr.data.datasets import CropSettings, PairSettings
from tsdsr.data.sources import list_photos
from tsdsr.training.validation import validation_figures, validation_pairs

SETTINGS = PairSettings(crops=CropSettings(size=32), other_scale_prob=0.0)


def test_crops_are_the_same_at_every_call_and_of_the_main_scale(photo_folder: Path) -> None:
    photos = list_photos(photo_folder)
    others = dataclasses.replace(SETTINGS, other_scale_prob=1.0, other_scales=(1.0, 1.0))
    first, second = list(validation_pairs(photos, SETTINGS, 64)), list(validation_pairs(photos, others, 64))
    assert len(first) == len(photos)
    for (x_lq, x_hq), (again_lq, again_hq) in zip(first, second, strict=True):
        assert x_lq.shape == x_hq.shape == (1, 3, 64, 64)
        assert torch.equal(x_lq, again_lq)
        assert torch.equal(x_hq, again_hq)


def test_psnr_and_l1_of_a_known_difference(tmp_path: Path) -> None:
    """A difference of ±0.1, whose mean is zero: 20 dB."""
    x_hq = torch.full((1, 3, 64, 64), 0.5)
    sign = torch.ones(64, 64)
    sign[:, ::2] = -1
    figures = validation_figures([(x_hq, x_hq + 0.1 * sign, x_hq)], {}, (), tmp_path / "sheet.png")
    assert figures["psnr"] == pytest.approx(20, abs=1e-3)
    assert figures["l1"] == pytest.approx(0.1, abs=1e-5)
    assert (tmp_path / "sheet.png").is_file()


def test_values_that_are_not_finite_have_no_psnr(tmp_path: Path) -> None:
    x_hq = torch.full((1, 3, 64, 64), 0.5)
    figures = validation_figures([(x_hq, x_hq * float("nan"), x_hq)], {}, (), tmp_path / "sheet.png")
    assert math.isnan(figures["psnr"])


def test_without_photographs_there_are_no_figures(tmp_path: Path) -> None:
    assert validation_figures([], {}, (), tmp_path / "sheet.png") == {}
    assert not (tmp_path / "sheet.png").exists()
