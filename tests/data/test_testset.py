from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.images.unusual import write_float
from tsdsr.data.degradation_presets import PRESETS
from tsdsr.data.second_order import SecondOrderDegradation
from tsdsr.data.sources import list_photos
from tsdsr.data.testset import MANIFEST, plan_test_set, read_manifest, write_test_set
from tsdsr.errors import DatasetError, InvalidInputError
from tsdsr.pixels import to_tensor, to_uint8
from tsdsr.result_records import RECORDS_FILE

SETTINGS = PRESETS["stablesr"]


def make(photos: Path, out: Path, crop: int | None = 64, count: int | None = 6, seed: int = 0) -> list[str]:
    items = plan_test_set(photos, list_photos(photos), SETTINGS, seed, crop, count)
    return list(write_test_set(photos, items, SETTINGS, out))


def content(folder: Path) -> dict[str, bytes]:
    """Manifest and images; lines of replaced pairs stay in the files of records."""
    files = (p for p in sorted(folder.rglob("*")) if p.is_file() and p.name != RECORDS_FILE)
    return {str(p.relative_to(folder)): p.read_bytes() for p in files}


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
    with pytest.raises(DatasetError, match="not a readable manifest"):
        read_manifest(tmp_path / "missing.jsonl")
    make(photo_folder, tmp_path / "d", count=1)
    header, line = (tmp_path / "d" / MANIFEST).read_text().splitlines()
    other = json.loads(header)
    other["settings"]["scale"] = 3
    (tmp_path / "other.jsonl").write_text(f"{json.dumps(other)}\n{line}\n")
    with pytest.raises(DatasetError, match="not a preset"):
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


def test_equal_stems_are_told_apart_before_the_first_pair(photo_folder: Path, tmp_path: Path) -> None:
    for name in ("more/cat.png", "more/Astronaut.png", "rocket.png", "rocket.jpg"):
        Image.new("RGB", (64, 64)).save(photo_folder / name)
    names = make(photo_folder, tmp_path / "a", crop=None, count=None)
    assert names == [
        "astronaut", "cat", "coffee", "more_Astronaut", "more_cat", "more_rocket", "rocket_jpg", "rocket_png",
    ]  # fmt: skip
    assert len(list_photos(tmp_path / "a" / "hr")) == len(names)
    Image.new("RGB", (64, 64)).save(photo_folder / "more_cat.png")
    with pytest.raises(DatasetError, match="'more_cat_png'"):
        make(photo_folder, tmp_path / "b", crop=None, count=None)
    assert not (tmp_path / "b").exists()


@pytest.mark.parametrize(
    "wrong",
    [{"crop": 0}, {"crop": -4}, {"crop": 66}, {"count": 0}, {"count": -1}, {"seed": -1}, {"seed": 2**64}],
)
def test_settings_are_checked_first(photo_folder: Path, wrong: dict[str, int]) -> None:
    given: dict[str, Any] = {"seed": 0, "crop": 64, "count": 6, **wrong}
    with pytest.raises(InvalidInputError):
        plan_test_set(photo_folder, list_photos(photo_folder), SETTINGS, **given)


def test_the_folder_holds_what_the_manifest_says(photo_folder: Path, tmp_path: Path) -> None:
    """Another seed, preset, crop or count, or a changed photograph, neither keeps old pairs nor mixes with them."""
    out = tmp_path / "set"
    make(photo_folder, out)
    before = content(out)
    for other in ({"seed": 1}, {"crop": 32}, {"count": 2}, {"count": None}):
        with pytest.raises(DatasetError, match=r"set: contains a test set of another seed, crop or count.*--overwrite"):
            make(photo_folder, out, **other)
    items = list(plan_test_set(photo_folder, list_photos(photo_folder), PRESETS["osediff"], 0, 64, 6))
    with pytest.raises(DatasetError, match="another preset"):
        list(write_test_set(photo_folder, items, PRESETS["osediff"], out))
    assert content(out) == before
    list(write_test_set(photo_folder, items[:2], PRESETS["osediff"], out, overwrite=True))
    list(write_test_set(photo_folder, items[:2], PRESETS["osediff"], tmp_path / "new"))
    assert content(out) == content(tmp_path / "new")
    assert len(content(out)) == 5
    make(photo_folder, tmp_path / "new2")
    Image.fromarray(np.zeros((300, 300, 3), dtype=np.uint8)).save(photo_folder / "astronaut.png")
    with pytest.raises(DatasetError, match="of other photographs"):
        make(photo_folder, tmp_path / "new2")


def test_a_larger_count_adds_pairs(photo_folder: Path, tmp_path: Path) -> None:
    make(photo_folder, tmp_path / "set", count=2)
    stamp = (tmp_path / "set" / "lr" / "000000_astronaut.png").stat().st_mtime_ns
    assert len(make(photo_folder, tmp_path / "set", count=6)) == 6
    assert (tmp_path / "set" / "lr" / "000000_astronaut.png").stat().st_mtime_ns == stamp
    make(photo_folder, tmp_path / "whole")
    assert content(tmp_path / "set") == content(tmp_path / "whole")


def test_images_of_no_set_are_neither_counted_nor_removed(photo_folder: Path, tmp_path: Path) -> None:
    stranger = tmp_path / "set" / "hr" / "holiday.png"
    stranger.parent.mkdir(parents=True)
    Image.new("RGB", (8, 8)).save(stranger)
    items = list(plan_test_set(photo_folder, list_photos(photo_folder), SETTINGS, 0, 64, 6))
    for overwrite in (False, True):
        with pytest.raises(DatasetError, match=r"hr/holiday\.png: .* choose another folder"):
            list(write_test_set(photo_folder, items, SETTINGS, tmp_path / "set", overwrite))
    assert stranger.is_file()
    assert not (tmp_path / "set" / MANIFEST).exists()


@pytest.mark.parametrize("output", ["photos", "photos/.", "."])
def test_pairs_do_not_come_among_the_photographs(tmp_path: Path, photo_folder: Path, output: str) -> None:
    root = photo_folder if output != "." else photo_folder.rename(tmp_path / "hr")
    with pytest.raises(InvalidInputError, match="among the photographs"):
        make(root, tmp_path / output)


def test_one_unusable_photograph_is_left_out(photo_folder: Path, tmp_path: Path) -> None:
    """Of every round, and the others have the parameters that they would have without it."""
    (photo_folder / "broken.png").write_bytes(b"x")
    Image.new("RGB", (60, 90)).save(photo_folder / "small.png")
    write_float(photo_folder)
    photos, failures = list_photos(photo_folder), list[str]()
    items = list(plan_test_set(photo_folder, photos, SETTINGS, 0, 64, 2 * len(photos), failures.append))
    assert [Path(message.split(":")[0]).name for message in failures] == ["broken.png", "float.tif", "small.png"]
    assert [item.name[:6] for item in items] == [f"{i:06d}" for i in (0, 2, 3, 5, 7, 9, 10, 12)]
    (photo_folder / "cat.webp").unlink()
    failures.clear()
    made = list(write_test_set(photo_folder, items, SETTINGS, tmp_path / "set", on_failure=failures.append))
    assert len(made) == len(read_manifest(tmp_path / "set" / MANIFEST)[1]) == 6
    assert len(failures) == 2
    assert "cat.webp" in failures[0]
    assert len(list_photos(tmp_path / "set" / "hr")) == len(list_photos(tmp_path / "set" / "lr")) == 6


def test_a_pair_that_cannot_be_written_leaves_nothing(
    photo_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save = Image.Image.save

    def full(image: Image.Image, file: object, **options: Any) -> None:
        if image.size == (32, 32):
            raise OSError(28, "No space left on device")
        save(image, file, **options)

    items = list(plan_test_set(photo_folder, list_photos(photo_folder), SETTINGS, 0, 64, 1))
    items += plan_test_set(photo_folder, list_photos(photo_folder)[1:2], SETTINGS, 0, 128, None)
    monkeypatch.setattr(Image.Image, "save", full)
    failures: list[str] = []
    made = list(write_test_set(photo_folder, items, SETTINGS, tmp_path / "set", on_failure=failures.append))
    assert (len(made), len(failures), "No space left" in failures[0]) == (1, 1, True)
    assert len(list_photos(tmp_path / "set" / "hr")) == len(list_photos(tmp_path / "set" / "lr")) == 1
    assert len(read_manifest(tmp_path / "set" / MANIFEST)[1]) == 1


def test_names_that_are_not_unicode_can_be_replayed(photo_folder: Path, tmp_path: Path) -> None:
    (photo_folder / "cat.webp").rename(photo_folder / os.fsdecode(b"caf\xe9.webp"))
    make(photo_folder, tmp_path / "a", count=4)
    settings, items = read_manifest(tmp_path / "a" / MANIFEST)
    list(write_test_set(photo_folder, items, settings, tmp_path / "b"))
    assert content(tmp_path / "a") == content(tmp_path / "b")


@pytest.mark.parametrize("name", ["../evil", "a/b", "", 3])
def test_a_manifest_cannot_write_elsewhere(photo_folder: Path, tmp_path: Path, name: object) -> None:
    make(photo_folder, tmp_path / "a", count=1)
    header, line = (tmp_path / "a" / MANIFEST).read_text().splitlines()
    (tmp_path / "bad.jsonl").write_text(f"{header}\n{json.dumps({**json.loads(line), 'name': name})}\n")
    with pytest.raises(DatasetError, match="not a readable manifest"):
        read_manifest(tmp_path / "bad.jsonl")


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("box",), ["a", 0, 64, 64]),
        (("box",), [0, 0, -64, 64]),
        (("source",), None),
        (("record", "first_quality"), None),
        (("record", "second_quality"), "x"),
        (("record", "final_mode"), "nearest"),
        (("record", "jpeg_last"), 2),
        (("record", "size"), [0, 16]),
        (("record", "noise_seed"), 2**64),
        (("record", "first", "strength"), float("nan")),
        (("record", "second", "kernel", "size"), 99),
        (("record", "final_kernel", "family"), "foo"),
    ],
)
def test_a_manifest_with_impossible_values_is_refused(
    photo_folder: Path, tmp_path: Path, path: tuple[str, ...], value: object
) -> None:
    make(photo_folder, tmp_path / "a", count=1)
    header, line = (tmp_path / "a" / MANIFEST).read_text().splitlines()
    item = place = json.loads(line)
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    (tmp_path / "bad.jsonl").write_text(f"{header}\n{json.dumps(item)}\n")
    with pytest.raises(DatasetError, match=f"not a readable manifest .*{path[-1]}"):
        read_manifest(tmp_path / "bad.jsonl")


@pytest.mark.parametrize("part", ["lr", "hr"])
def test_a_pair_that_was_changed_is_made_again(photo_folder: Path, tmp_path: Path, part: str) -> None:
    """Cut off, emptied, replaced, or of unknown origin: the manifest would describe another image."""
    out = tmp_path / "set"
    make(photo_folder, out, count=4)
    before = content(out)
    files = sorted((out / part).glob("*.png"))
    files[0].write_bytes(b"")
    files[1].write_bytes(files[1].read_bytes()[:100])
    Image.new("RGB", (8, 8)).save(files[2])
    (out / part / RECORDS_FILE).unlink()
    make(photo_folder, out, count=4)
    assert content(out) == before


def test_a_folder_in_the_place_of_an_image_is_named_first(photo_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "set" / "lr" / "000001_cat.png").mkdir(parents=True)
    with pytest.raises(DatasetError, match=r"lr/000001_cat\.png: is a folder where an image belongs"):
        make(photo_folder, tmp_path / "set")
    assert not (tmp_path / "set" / MANIFEST).exists()
