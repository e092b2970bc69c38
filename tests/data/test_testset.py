from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tsdsr.data.degradation_presets import PRESETS
from tsdsr.data.second_order import SecondOrderDegradation
from tsdsr.data.sources import list_photos
from tsdsr.data.testset import MANIFEST, plan_test_set, read_manifest, write_test_set
from tsdsr.errors import DatasetError, InvalidInputError
from tsdsr.pixels import to_tensor, to_uint8

SETTINGS = PRESETS["stablesr"]


def make(photos: Path, out: Path, crop: int | None = 64, count: int | None = 6, seed: int = 0) -> list[str]:
    items = plan_test_set(photos, list_photos(photos), SETTINGS, seed, crop, count)
    return list(write_test_set(photos, items, SETTINGS, out))


def content(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def test_crops_come_in_pairs_with_a_manifest(photo_folder: Path, tmp_path: Path) -> None:
    names = make(photo_folder, tmp_path / "set")
    assert names[0] == "000000_astronaut"
    pairs = list(zip(list_photos(tmp_path / "set" / "lr"), list_photos(tmp_path / "set" / "hr"), strict=True))
    assert len(pairs) == len(names) == 6
    for low, high in pairs:
        with Image.open(low) as a, Image.open(high) as b:
            assert (a.size, b.size) == ((16, 16), (64, 64))
    settings, items = read_manifest(tmp_path / "set" / MANIFEST)
    assert settings == SETTINGS
    assert [i.name for i in items] == names


def test_the_same_seed_makes_the_same_set(photo_folder: Path, tmp_path: Path) -> None:
    make(photo_folder, tmp_path / "a")
    make(photo_folder, tmp_path / "b")
    make(photo_folder, tmp_path / "c", seed=1)
    assert content(tmp_path / "a") == content(tmp_path / "b")
    assert content(tmp_path / "a") != content(tmp_path / "c")


def test_the_manifest_alone_makes_the_set_again(photo_folder: Path, tmp_path: Path) -> None:
    make(photo_folder, tmp_path / "a")
    settings, items = read_manifest(tmp_path / "a" / MANIFEST)
    list(write_test_set(photo_folder, iter(items), settings, tmp_path / "again"))
    assert content(tmp_path / "a") == content(tmp_path / "again")


def test_whole_images_keep_their_names(photo_folder: Path, tmp_path: Path) -> None:
    assert make(photo_folder, tmp_path / "set", crop=None, count=None) == ["astronaut", "cat", "coffee", "rocket"]
    with (
        Image.open(tmp_path / "set" / "lr" / "cat.png") as low,
        Image.open(tmp_path / "set" / "hr" / "cat.png") as high,
    ):
        assert high.size == (4 * low.width, 4 * low.height)


def test_an_interrupted_set_is_continued(photo_folder: Path, tmp_path: Path) -> None:
    items = plan_test_set(photo_folder, list_photos(photo_folder), SETTINGS, 0, 64, 6)
    writer = write_test_set(photo_folder, items, SETTINGS, tmp_path / "parts")
    next(writer)
    writer.close()
    stamp = (tmp_path / "parts" / "lr" / "000000_astronaut.png").stat().st_mtime_ns
    make(photo_folder, tmp_path / "parts")
    assert (tmp_path / "parts" / "lr" / "000000_astronaut.png").stat().st_mtime_ns == stamp
    make(photo_folder, tmp_path / "whole")
    assert content(tmp_path / "parts") == content(tmp_path / "whole")


def test_another_version_of_an_image_is_noticed(photo_folder: Path, tmp_path: Path) -> None:
    make(photo_folder, tmp_path / "a")
    settings, items = read_manifest(tmp_path / "a" / MANIFEST)
    Image.fromarray(np.zeros((512, 512, 3), dtype=np.uint8)).save(photo_folder / "astronaut.png")
    with pytest.raises(DatasetError, match=r"astronaut\.png: is not the image"):
        list(write_test_set(photo_folder, iter(items), settings, tmp_path / "b"))


def test_errors_say_what_is_wrong(photo_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match="multiple of the scale"):
        make(photo_folder, tmp_path / "a", crop=66)
    with pytest.raises(InvalidInputError, match="smaller than the crop"):
        make(photo_folder, tmp_path / "b", crop=512)
    Image.new("RGB", (64, 64)).save(photo_folder / "more" / "cat.png")
    with pytest.raises(DatasetError, match="'cat'"):
        make(photo_folder, tmp_path / "c", crop=None, count=None)
    with pytest.raises(DatasetError, match="not a readable manifest"):
        read_manifest(tmp_path / "missing.jsonl")
    make(photo_folder, tmp_path / "d", count=1)
    header, line = (tmp_path / "d" / MANIFEST).read_text().splitlines()
    other = json.loads(header)
    other["settings"]["scale"] = 3
    (tmp_path / "other.jsonl").write_text(f"{json.dumps(other)}\n{line}\n")
    with pytest.raises(DatasetError, match="no preset"):
        read_manifest(tmp_path / "other.jsonl")


def test_a_sharpened_truth_is_what_is_stored(photo_folder: Path, tmp_path: Path) -> None:
    """StableSR's preset sharpens it; the low-quality image is made of it, too."""
    make(photo_folder, tmp_path / "set", count=2)
    _, items = read_manifest(tmp_path / "set" / MANIFEST)
    for item in items:
        left, top, width, height = item.box
        with Image.open(photo_folder / item.source) as photo:
            crop = photo.convert("RGB").crop((left, top, left + width, top + height))
        expected = SecondOrderDegradation(SETTINGS).target(to_tensor(np.asarray(crop))[None])[0]
        with Image.open(tmp_path / "set" / "hr" / f"{item.name}.png") as stored:
            assert np.abs(np.asarray(stored).astype(int) - to_uint8(expected)).max() <= 1
            assert np.abs(np.asarray(stored).astype(int) - np.asarray(crop)).max() > 10
