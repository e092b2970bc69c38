from __future__ import annotations

import logging
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader

from tests.images.unusual import SIZE, UNUSUAL, write_float, write_unusual
from tests.logs import own_records
from tsdsr.data.camera import CameraDegradation
from tsdsr.data.datasets import CropDataset, CropSettings, PairDataset, PairSettings
from tsdsr.data.degradation_presets import PRESETS
from tsdsr.data.photographs import PhotoCache
from tsdsr.data.sources import Source, list_photos
from tsdsr.errors import ConfigError, DatasetError, ImageReadError


def source(folder: Path, weight: float = 1.0) -> Source:
    return Source(str(folder), tuple(list_photos(folder)), weight)


def pairs(folder: Path, length: int = 6, seed: int = 3, size: int = 32, **settings: object) -> PairDataset:
    return PairDataset([source(folder)], length, PairSettings(crops=CropSettings(size=size), **settings), seed)


SECOND_ORDER = {"degradation": PRESETS["osediff"]}


@pytest.mark.parametrize("settings", [{}, SECOND_ORDER], ids=["simple", "second-order"])
def test_items_depend_on_seed_and_number_only(photo_folder: Path, settings: dict[str, object]) -> None:
    one, other = (pairs(photo_folder, size=64, **settings) for _ in range(2))
    in_order = [one[i] for i in range(6)]
    backwards = [other[i] for i in reversed(range(6))][::-1]
    for (lq, hq), (lq2, hq2) in zip(in_order, backwards, strict=True):
        assert torch.equal(lq, lq2)
        assert torch.equal(hq, hq2)
    assert not torch.equal(pairs(photo_folder, seed=4, size=64)[0][1], in_order[0][1])


@pytest.mark.parametrize("settings", [{}, SECOND_ORDER], ids=["simple", "second-order"])
def test_workers_change_nothing(photo_folder: Path, settings: dict[str, object]) -> None:
    dataset = pairs(photo_folder, size=64, **settings)
    alone, together = (torch.cat([torch.cat(item) for item in DataLoader(dataset, 2, num_workers=n)]) for n in (0, 2))
    assert torch.equal(alone, together)


@pytest.mark.parametrize("settings", [{}, SECOND_ORDER], ids=["simple", "second-order"])
def test_pairs_show_the_same_scene_and_the_first_is_worse(photo_folder: Path, settings: dict[str, object]) -> None:
    dataset = pairs(photo_folder, 12, size=64, **settings)
    differences = []
    for lq, hq in (dataset[i] for i in range(12)):
        assert lq.shape == hq.shape == (3, 64, 64)
        assert min(lq.min(), hq.min()) >= 0
        assert max(lq.max(), hq.max()) <= 1
        differences.append((lq - hq).abs().mean().item())
    assert min(differences) > 1e-3
    assert np.median(differences) < 0.15


def test_sharpened_targets_come_with_their_preset(photo_folder: Path) -> None:
    plain = pairs(photo_folder, size=64, degradation=PRESETS["osediff"])[0][1]
    sharp = pairs(photo_folder, size=64, degradation=PRESETS["realesrgan"])[0][1]
    assert sharp.diff().abs().mean() > plain.diff().abs().mean()


def test_degradations_are_mixed_by_probability() -> None:
    rng = np.random.default_rng(0)
    a, b = PRESETS["stablesr"], PRESETS["osediff"]
    settings = PairSettings(others=((0.5, a), (0.2, b)))
    names = {id(a): "a", id(b): "b"}
    drawn = Counter(names.get(id(settings.choose(rng)), "own") for _ in range(4000))
    assert drawn["a"] / 4000 == pytest.approx(0.5, abs=0.03)
    assert drawn["b"] / 4000 == pytest.approx(0.2, abs=0.03)
    assert drawn["own"] == 4000 - drawn["a"] - drawn["b"]


def test_probabilities_that_make_one_are_accepted_whatever_their_order() -> None:
    """Added from left to right, these binary numbers exceed 1 by a rounding error."""
    shares = (0.2, 0.4, 0.1, 0.2, 0.1)
    assert sum(shares) > 1
    assert PairSettings(others=tuple((share, PRESETS["osediff"]) for share in shares)).others
    with pytest.raises(ConfigError, match="must not exceed 1 together"):
        PairSettings(others=((0.5, PRESETS["osediff"]), (0.51, PRESETS["osediff"])))


def test_a_photographed_truth_changes_the_truth_alone(photo_folder: Path) -> None:
    """Nor does it change what else is drawn: the low-quality image is made of the scene."""
    plain, never, always = (
        pairs(photo_folder, 3, truth=truth)
        for truth in (None, (0.0, CameraDegradation()), (1.0, CameraDegradation(blur_sigma=(0.3, 0.7), jpeg_prob=0.0)))
    )
    for i in range(3):
        (lq, hq), (lq_never, hq_never), (lq_always, hq_always) = plain[i], never[i], always[i]
        assert torch.equal(hq, hq_never)
        assert torch.equal(lq, lq_never)
        assert torch.equal(lq, lq_always)
        assert not torch.equal(hq, hq_always)
        assert hq_always.shape == hq.shape
        assert torch.corrcoef(torch.stack([hq.flatten(), hq_always.flatten()]))[0, 1] > 0.8  # the same scene, in place


def test_a_single_degradation_draws_nothing() -> None:
    rng = np.random.default_rng(0)
    PairSettings().choose(rng)
    assert rng.random() == np.random.default_rng(0).random()


def test_sources_are_mixed_by_weight(photo_folder: Path, tmp_path: Path) -> None:
    for name, colour in (("red", (200, 0, 0)), ("green", (0, 200, 0))):
        (tmp_path / name).mkdir()
        Image.new("RGB", (64, 64), colour).save(tmp_path / name / "only.png")
    sources = [source(tmp_path / "red", 3.0), source(tmp_path / "green", 1.0)]
    crops = CropDataset(sources, 400, CropSettings(size=32, min_std=0.0, shrink_prob=0))
    counts = Counter("red" if crops[i][0, 0, 0] > 0.5 else "green" for i in range(400))
    assert 260 < counts["red"] < 340


def test_crops_with_detail_are_preferred(tmp_path: Path) -> None:
    picture = np.full((256, 256, 3), 90, dtype=np.uint8)
    picture[:, :100] = np.random.default_rng(0).integers(0, 255, (256, 100, 3))
    Image.fromarray(picture).save(tmp_path / "half.png")

    def flat_share(min_std: float) -> float:
        crops = CropDataset([source(tmp_path)], 200, CropSettings(size=32, min_std=min_std, shrink_prob=0))
        return float(np.mean([crops[i].std().item() < 0.01 for i in range(200)]))

    assert flat_share(0.0) > 0.4
    assert flat_share(0.02) < 0.1


def test_crops_of_enlarged_photographs_are_softer(tmp_path: Path) -> None:
    grain = np.random.default_rng(0).integers(0, 255, (128, 128, 3), dtype=np.uint8)
    Image.fromarray(grain).save(tmp_path / "grain.png")

    def sharpness(enlarge_prob: float) -> float:
        settings = CropSettings(size=32, shrink_prob=0, enlarge_prob=enlarge_prob, max_enlarge=2)
        crops = CropDataset([source(tmp_path)], 20, settings)
        return float(np.mean([crops[i].diff().abs().mean() for i in range(20)]))

    assert sharpness(1.0) < 0.85 * sharpness(0.0)


def test_broken_and_tiny_files_are_left_out_and_counted(photo_folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    for i in range(60):
        Image.fromarray(np.random.default_rng(i).integers(0, 255, (40, 40, 3), dtype=np.uint8)).save(
            photo_folder / f"noise{i:02d}.png"
        )
    (photo_folder / "broken.jpg").write_bytes(b"x")
    Image.new("RGB", (20, 500)).save(photo_folder / "tiny.png")
    dataset = CropDataset([source(photo_folder)], 600, CropSettings(size=32))
    with caplog.at_level(logging.WARNING):
        for i in range(600):
            dataset[i]
    assert dataset.health.count == 2
    messages = sorted(r.getMessage() for r in own_records(caplog))
    assert len(messages) == 2
    assert "broken.jpg: is a text, not an image" in messages[0]
    assert "tiny.png: 20x500 is smaller" in messages[1]


@pytest.mark.parametrize("name", UNUSUAL)
def test_crops_show_what_the_file_shows(tmp_path: Path, name: str) -> None:
    _, shown = write_unusual(tmp_path, name)
    settings = CropSettings(size=SIZE, shrink_prob=0, flip=False, rotate=False)
    crop = CropDataset([source(tmp_path)], 1, settings)[0]
    torch.testing.assert_close(crop, torch.from_numpy(shown.copy()).permute(2, 0, 1) / 255)


def test_floating_point_files_are_left_out_by_name(tmp_path: Path) -> None:
    write_float(tmp_path)
    with pytest.raises(DatasetError, match=r"float\.tif: contains floating-point values"):
        CropDataset([source(tmp_path)], 1, CropSettings(size=32))[0]


def test_too_many_broken_files_are_an_error_in_a_worker_too(photo_folder: Path) -> None:
    for i in range(5):
        (photo_folder / f"broken{i}.jpg").write_bytes(b"x")
    batches = iter(DataLoader(pairs(photo_folder, 200), 4, num_workers=1))
    with pytest.raises(DatasetError, match=r"4 of 9 .*broken\d\.jpg"):
        list(batches)
    batches._shutdown_workers()  # type: ignore[attr-defined]  # the error refers to the iterator, and to itself


def test_the_cache_stays_within_its_budget(photo_folder: Path) -> None:
    photos = list_photos(photo_folder)
    cache = PhotoCache(max_bytes=1_000_000)
    first = [cache.load(p).pixels for p in photos]
    assert cache._bytes <= max(1_000_000, first[-1].nbytes)
    assert all(np.array_equal(cache.load(p).pixels, pixels) for p, pixels in zip(photos, first, strict=True))
    with pytest.raises(ImageReadError):
        cache.load(photo_folder / "missing.png")


def test_impossible_settings_are_refused() -> None:
    for wrong in ({"size": 8}, {"min_shrink": 0.0}, {"max_enlarge": 0.5}, {"enlarge_prob": 0.6}):
        with pytest.raises(ConfigError):
            CropSettings(**wrong)
    for wrong in ({"scale": 0.5}, {"other_scales": (4.0, 2.0)}, {"truth": (1.5, CameraDegradation())}):
        with pytest.raises(ConfigError):
            PairSettings(**wrong)
