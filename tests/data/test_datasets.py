from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from tsdsr.data.datasets import PairDataset, PairSettings, PhotoCache, list_photos, split_photos
from tsdsr.errors import ConfigError, ImageReadError, InvalidInputError


def test_items_depend_on_seed_and_number_only(photo_folder: Path) -> None:
    photos = list_photos(photo_folder)
    one, other = (PairDataset(photos, 6, PairSettings(crop=32), seed=3) for _ in range(2))
    in_order = [one[i] for i in range(6)]
    backwards = [other[i] for i in reversed(range(6))][::-1]
    for (lq, hq), (lq2, hq2) in zip(in_order, backwards, strict=True):
        assert torch.equal(lq, lq2)
        assert torch.equal(hq, hq2)
    assert not torch.equal(PairDataset(photos, 6, PairSettings(crop=32), seed=4)[0][1], in_order[0][1])


def test_workers_change_nothing(photo_folder: Path) -> None:
    dataset = PairDataset(list_photos(photo_folder), 6, PairSettings(crop=32))
    alone, together = (torch.cat([hq for _, hq in DataLoader(dataset, 2, num_workers=n)]) for n in (0, 2))
    assert torch.equal(alone, together)


def test_pairs_show_the_same_scene_and_the_first_is_worse(photo_folder: Path) -> None:
    dataset = PairDataset(list_photos(photo_folder), 12, PairSettings(crop=64))
    for lq, hq in (dataset[i] for i in range(12)):
        assert lq.shape == hq.shape == (3, 64, 64)
        assert min(lq.min(), hq.min()) >= 0
        assert max(lq.max(), hq.max()) <= 1
        assert (lq - hq).abs().mean() < 0.15
        assert (lq - hq).abs().mean() > 1e-3


def test_photographs_smaller_than_the_crop_are_enlarged(photo_folder: Path) -> None:
    lq, hq = PairDataset(list_photos(photo_folder), 1, PairSettings(crop=800, shrink_prob=0))[0]
    assert lq.shape == hq.shape == (3, 800, 800)


def test_the_split_is_stable_and_complete(photo_folder: Path) -> None:
    photos = [Path(f"{i:05d}.jpg") for i in range(1000)]
    train, held_out = split_photos(photos, 0.1)
    assert sorted(train + held_out) == photos
    assert 60 < len(held_out) < 140
    assert split_photos(photos[:500], 0.1)[1] == [p for p in held_out if p in set(photos[:500])]


def test_the_cache_stays_within_its_budget(photo_folder: Path) -> None:
    photos = list_photos(photo_folder)
    cache = PhotoCache(max_bytes=1_000_000)
    first = [cache.read(p) for p in photos]
    assert cache._bytes <= max(1_000_000, first[-1].nbytes)
    assert all(np.array_equal(cache.read(p), pixels) for p, pixels in zip(photos, first, strict=True))


def test_errors_name_the_file(tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match="no photographs"):
        list_photos(tmp_path)
    (tmp_path / "broken.jpg").write_bytes(b"x")
    with pytest.raises(ImageReadError, match=r"broken\.jpg"):
        PairDataset(list_photos(tmp_path), 1, PairSettings())[0]
    with pytest.raises(InvalidInputError):
        PairDataset([], 1, PairSettings())
    for wrong in ({"crop": 8}, {"min_shrink": 0.0}, {"scale": 0.5}, {"other_scales": (4.0, 2.0)}):
        with pytest.raises(ConfigError):
            PairSettings(**wrong)
