"""Position, orientation and scale of crops, and the size of a pair's low-quality image."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from tsdsr.data.datasets import CropDataset, CropSettings, PairDataset, PairSettings
from tsdsr.data.first_order import FirstOrderDegradation
from tsdsr.data.sources import Source, split_photos

PLAIN: dict[str, Any] = {"min_std": 0.0, "shrink_prob": 0.0, "flip": False, "rotate": False}


def crops(folder: Path, pixels: np.ndarray, count: int, **settings: Any) -> list[Tensor]:
    """Crops of one photograph; of its pixels as they are unless settings say otherwise."""
    Image.fromarray(pixels.astype(np.uint8)).save(folder / "photo.png")
    dataset = CropDataset([Source("one", (folder / "photo.png",))], count, CropSettings(**{**PLAIN, **settings}))
    return [dataset[i] for i in range(count)]


def test_crops_come_from_every_place_up_to_the_last_row_and_column(tmp_path: Path) -> None:
    y, x = np.mgrid[:35, :34]
    pixels = np.stack([5 * y, 6 * x, 0 * x], -1)
    found = {
        (round(float(c[0, 0, 0]) * 51), round(float(c[1, 0, 0]) * 42.5)) for c in crops(tmp_path, pixels, 150, size=32)
    }
    assert found == {(top, left) for top in range(4) for left in range(3)}


def test_pixels_are_parts_of_255(tmp_path: Path) -> None:
    (crop,) = crops(tmp_path, np.tile(np.array([0, 128, 255]), (32, 32, 1)), 1, size=32)
    torch.testing.assert_close(crop[:, 3, 5], torch.tensor([0.0, 128 / 255, 1.0]), rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("flip", "rotate", "kinds"), [(True, True, 8), (False, True, 4), (True, False, 2), (False, False, 1)]
)
def test_crops_are_turned_and_mirrored_as_asked_and_equally_often(
    tmp_path: Path, flip: bool, rotate: bool, kinds: int
) -> None:
    pixels = np.zeros((32, 32, 3))
    pixels[4, 8] = 255  # off every axis of symmetry
    places = Counter(int(c[0].argmax()) for c in crops(tmp_path, pixels, 240, size=32, flip=flip, rotate=rotate))
    assert len(places) == kinds
    assert min(places.values()) > 0.55 * 240 / kinds
    if not flip and not rotate:
        assert set(places) == {4 * 32 + 8}


@pytest.mark.parametrize(("shrink", "enlarge"), [(0.0, 0.0), (0.2, 0.0), (0.0, 0.3), (0.3, 0.6), (1.0, 0.0)])
def test_photographs_are_shrunk_and_enlarged_as_often_as_asked(tmp_path: Path, shrink: float, enlarge: float) -> None:
    """On a ramp the slope of a crop is the factor it was taken by."""
    pixels = np.tile(np.arange(128)[None, :, None], (128, 1, 3))
    settings = {"shrink_prob": shrink, "enlarge_prob": enlarge, "min_shrink": 0.5, "max_enlarge": 2.0}
    taken = crops(tmp_path, pixels, 250, size=32, **settings)
    slopes = np.array([float(c[0, 16, 24] - c[0, 16, 8]) * 255 / 16 for c in taken])
    assert (slopes > 1.02).mean() == pytest.approx(0.97 * shrink, abs=0.08)
    assert (slopes < 0.98).mean() == pytest.approx(0.97 * enlarge, abs=0.08)
    assert 0.48 < slopes.min() <= slopes.max() < 2.1


@pytest.mark.parametrize(("settings", "sizes", "share"), [
    ({"scale": 2.0, "other_scale_prob": 0.0}, {32}, 0.0),
    ({"scale": 8.0, "other_scale_prob": 0.0}, {8}, 0.0),
    ({"scale": 4.0, "other_scale_prob": 1.0, "other_scales": (2.0, 2.0)}, {32}, 1.0),
    ({"scale": 4.0, "other_scale_prob": 0.25, "other_scales": (1.5, 1.6)}, {16, 40, 41, 42, 43}, 0.25),
])  # fmt: skip
def test_the_low_quality_image_has_the_scale_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, settings: dict[str, Any], sizes: set[int], share: float
) -> None:
    drawn: list[int] = []
    honest = FirstOrderDegradation.__call__

    def recorded(self: FirstOrderDegradation, hq: Tensor, size: tuple[int, int], rng: np.random.Generator) -> Tensor:
        assert size[0] == size[1]
        drawn.append(size[0])
        return honest(self, hq, size, rng)

    monkeypatch.setattr(FirstOrderDegradation, "__call__", recorded)
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (80, 80, 3), np.uint8)).save(tmp_path / "photo.png")
    pairs = PairSettings(crops=CropSettings(size=64, shrink_prob=0.0), **settings)
    dataset = PairDataset([Source("one", (tmp_path / "photo.png",))], 120, pairs)
    assert all(dataset[i][0].shape == (3, 64, 64) for i in range(120))
    assert set(drawn) <= sizes
    assert np.mean([size != round(64 / settings["scale"]) for size in drawn]) == pytest.approx(share, abs=0.1)


def test_photographs_of_one_name_fall_on_the_same_side_of_the_split() -> None:
    """Independent of the folder and of other files in the dataset."""
    names = [f"{i:04d}.jpg" for i in range(300)]
    held = [split_photos([Path(folder) / n for n in names], 0.2)[1] for folder in ("a", "b/c", "/d")]
    assert held[0] == held[1] == held[2]
    assert 30 < len(held[0]) < 90
