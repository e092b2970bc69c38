"""Shards as sources of photographs: descriptions, indexes, and shards that are not what their index says."""

from __future__ import annotations

import copy
import io
import json
import pickle
import tarfile
from pathlib import Path
from unittest import mock

import fsspec
import numpy as np
import pytest
from PIL import Image

from tsdsr.data.datasets import CropDataset, CropSettings
from tsdsr.data.photographs import ShardPhoto
from tsdsr.data.shard_file import ShardEntry
from tsdsr.data.shard_index import check_shards, open_shards
from tsdsr.data.shard_photos import ShardPhotos
from tsdsr.data.source_specs import absolute_shards
from tsdsr.errors import DatasetError, ImageError, InvalidInputError


def write_tar(path: Path, members: dict[str, bytes], mode: str = "w") -> None:
    """Write a shard as other programs do."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, mode) as tar:  # type: ignore[call-overload]
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three shards of others: texts before images, files of other kinds, long names, a sample without an image."""
    for shard in range(3):
        members: dict[str, bytes] = {"readme": b"x", "lonely.txt": b"no image"}
        for number in range(3):
            stem = f"{shard}{number}" + ("long" * 40 if number == 2 else "")
            members |= {f"{stem}.txt": f"text {shard}{number} ".encode(), f"{stem}.json": b"{}"}
            members[f"{stem}.JPG"] = bytes([shard, number]) * (1000 + number)
        write_tar(tmp_path / "foreign" / f"{shard:03d}.tar", members)
    return tmp_path / "foreign"


def read(photos: ShardPhotos) -> list[tuple[bytes, str]]:
    return [(data[:2], text) for data, text in (photo.read() for photo in photos)]


ALL = [(bytes([shard, number]), f"text {shard}{number}") for shard in range(3) for number in range(3)]


def test_folders_ranges_and_single_shards(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = tmp_path / "cache"
    assert read(open_shards(folder, cache).images) == ALL
    assert read(open_shards(f"{folder}/{{000..002}}.tar", cache).images) == ALL
    some = open_shards(f"{folder}/{{001..002}}.tar,weight=0.5,limit=4", cache)
    assert (read(some.images), some.weight) == (ALL[3:7], 0.5)
    assert read(open_shards(folder / "002.tar", cache).images) == ALL[6:]
    memory = fsspec.filesystem("memory")
    for path in folder.iterdir():
        memory.pipe(f"/bucket/{path.name}", path.read_bytes())
    assert (
        read(open_shards("memory://bucket/{0..2}.tar".replace("{0", "{000").replace("2}", "002}"), cache).images) == ALL
    )
    assert read(open_shards("memory://bucket", cache).images) == ALL
    monkeypatch.chdir(folder)
    assert absolute_shards("{000..002}.tar,limit=4") == f"{folder}/{{000..002}}.tar,limit=4"
    assert read(open_shards("001.tar", cache).images) == ALL[3:6]


def test_headers_are_read_once(folder: Path, tmp_path: Path) -> None:
    first = list(open_shards(folder, tmp_path / "cache").images)
    with mock.patch("tsdsr.data.shard_index.scan_shard", side_effect=AssertionError):
        assert list(open_shards(folder, tmp_path / "cache").images) == first
    write_tar(folder / "001.tar", {"new.png": b"12"})
    changed = open_shards(folder, tmp_path / "cache").images
    assert [photo.name for photo in changed[2:5]] == [first[2].name, "new.png", first[6].name]


def test_one_request_reads_photograph_and_text(folder: Path, tmp_path: Path) -> None:
    near = open_shards(folder / "000.tar", tmp_path / "cache").images[0]
    write_tar(tmp_path / "far.tar", {"a.txt": b"far", "b.bin": bytes(2**19), "a.png": b"image"})
    far = open_shards(tmp_path / "far.tar", tmp_path / "cache").images[0]
    from tsdsr.data import photographs

    for photo, requests, text in ((near, 1, "text 00"), (far, 2, "far")):
        with mock.patch.object(photographs, "read_bytes", wraps=photographs.read_bytes) as reading:
            assert photo.read()[1] == text
        assert reading.call_count == requests
        assert sum(call.args[2] for call in reading.call_args_list) < 2**13


def test_a_shard_that_was_replaced_is_noticed(folder: Path, tmp_path: Path) -> None:
    photos = open_shards(folder / "000.tar", tmp_path / "cache").images
    members = {"other.JPG": b"\0" * 1000, **{f"{i}.txt": b"" for i in range(40)}}
    write_tar(folder / "000.tar", members)
    for photo in photos:
        with pytest.raises(DatasetError, match=r"000\.tar: does not contain 0.* where its index says"):
            photo.read()
    header = tarfile.TarInfo("same.JPG")
    header.size = photos[0].size
    raw = bytearray((folder / "000.tar").read_bytes())
    raw[photos[0].offset - 512 : photos[0].offset] = header.tobuf(tarfile.GNU_FORMAT)
    (folder / "000.tar").write_bytes(raw)
    with pytest.raises(DatasetError, match="does not contain 00"):
        photos[0].read()
    (folder / "000.tar").unlink()
    with pytest.raises(DatasetError, match=r"000\.tar: .*no such file"):
        photos[0].read()


def test_unusable_shards_are_named(tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    (tmp_path / "a.tar").write_bytes(b"no tar file at all" * 100)
    write_tar(tmp_path / "zip.tar", {"a.png": b"1"}, "w:gz")
    write_tar(tmp_path / "none.tar", {"a.txt": b"1"})
    write_tar(tmp_path / "cut.tar", {"a.png": bytes(50_000)})
    (tmp_path / "cut.tar").write_bytes((tmp_path / "cut.tar").read_bytes()[:30_000])
    write_tar(tmp_path / "text.tar", {"a.png": b"1", "a.txt": b"caf\xe9"})
    write_tar(tmp_path / "tail.tar", {f"{number}.png": bytes(1000) for number in range(4)})
    whole = (tmp_path / "tail.tar").read_bytes()
    (tmp_path / "tail.tar").write_bytes(whole[: 2 * 1536 + 200])  # within the third header
    (tmp_path / "header.tar").write_bytes(whole[: 2 * 1536] + b"?" * 512 + whole[2 * 1536 + 512 :])
    write_tar(tmp_path / "open.tar", {"a.png": b"1"})
    unended = (tmp_path / "open.tar").read_bytes()[:1024]
    (tmp_path / "open.tar").write_bytes(unended)  # without zeros behind, as some programs write them
    assert len(open_shards(tmp_path / "open.tar", cache).images) == 1
    for name in ("a", "zip", "cut", "tail", "header"):
        with pytest.raises(DatasetError, match=rf"{name}\.tar: is not a readable uncompressed tar file"):
            open_shards(tmp_path / f"{name}.tar", cache)
    with pytest.raises(DatasetError, match=r"none\.tar: the shards contain no images"):
        open_shards(tmp_path / "none.tar", cache)
    with pytest.raises(ImageError, match=r"text\.tar: the text of a\.png: is not UTF-8"):
        open_shards(tmp_path / "text.tar", cache).images[0].read()
    (tmp_path / "empty").mkdir()
    for missing in (tmp_path / "empty", "memory://nothing"):
        with pytest.raises(DatasetError, match="contains no shards"):
            open_shards(missing, cache)
    with pytest.raises(DatasetError, match="nowhere: no such folder or shard"):
        open_shards(tmp_path / "nowhere", cache)
    for wrong in (f"{tmp_path}/{{00..03}}.tar", f"{tmp_path}/gone.tar"):
        with pytest.raises(DatasetError, match=r"00\.tar: no such|gone\.tar: no such"):
            open_shards(wrong, cache)
        with pytest.raises(DatasetError, match="no such folder or shard"):
            check_shards(wrong)
    for wrong in ("", f"{tmp_path}/{{3..1}}.tar", f"{tmp_path},limit=0", f"{tmp_path},weight=x"):
        with pytest.raises(InvalidInputError):
            open_shards(wrong, cache)


@pytest.mark.parametrize("index", [{"__kind__": "wids-shard-index-v1", "shardlist": [{"url": "x.tar"}]}, ["x.tar"]])
def test_an_index_of_another_program_is_ignored(folder: Path, tmp_path: Path, index: object) -> None:
    (folder / "index.json").write_text(json.dumps(index))
    assert read(open_shards(folder, tmp_path / "cache").images) == ALL
    assert read(open_shards(folder / "001.tar", tmp_path / "cache").images) == ALL[3:6]


@pytest.mark.parametrize("damage", ["cut", "shards", "places", "bytes"])
def test_a_damaged_index_is_named(tmp_path: Path, damage: str) -> None:
    write_tar(tmp_path / "000.tar", {"a.png": b"1"})
    entry = open_shards(tmp_path, tmp_path / "cache").images
    assert len(entry) == 1
    (kept,) = (tmp_path / "cache").iterdir()
    plain = json.loads(kept.read_text())["shard"]
    if damage == "places":
        plain["places"]["size"] = []
    if damage == "bytes":
        plain["bytes"] += 1
    text = json.dumps({"format": 2, "shards": 3 if damage == "shards" else [plain]})
    (tmp_path / "index.json").write_text(text[:-9] if damage == "cut" else text)
    with pytest.raises(DatasetError, match=r"not an index of shards|index is damaged|the index says"):
        open_shards(tmp_path, tmp_path / "cache")


def many(shards: int, samples: int) -> ShardPhotos:
    places = np.arange(4 * samples, dtype=np.int64).reshape(samples, 4)
    names = tuple(f"folder/{number:08d}.jpg" for number in range(samples))
    return ShardPhotos(
        [(f"s3://b/{i}.tar", ShardEntry(f"{i}.tar", "", 0, str(i), names, places)) for i in range(shards)]
    )


def test_a_million_photographs_take_little_memory() -> None:
    photos = many(1000, 1000)
    assert len(photos) == 1_000_000
    assert photos[999_999] == ShardPhoto("s3://b/999.tar", "folder/00000999.jpg", 3996, 3997, 3998, 3999)
    assert len(pickle.dumps(photos)) < 100e6


def test_parts_share_the_memory_and_have_fingerprints_of_their_own() -> None:
    photos = many(4, 10)
    part = photos.take([3, 25, 39])
    assert list(part) == [photos[3], photos[25], photos[39]]
    assert list(copy.deepcopy(part)[1:]) == [photos[25], photos[39]]
    assert part.total_bytes == sum(photo.size for photo in part)
    prints = {p.fingerprint() for p in (photos, part, photos.take([3, 25]), photos.take([25, 3, 39]), photos[:10])}
    assert len(prints) == 5
    assert photos[:10].fingerprint() == many(1, 10).fingerprint()


def test_a_damaged_photograph_is_left_out_and_a_missing_shard_ends_the_run(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    picture = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 40, 3), np.uint8)).save(picture, "PNG")
    members = {f"{number:02d}.png": picture.getvalue() for number in range(12)}
    texts = {"03.txt": b"three", "05.txt": b"caf\xe9"}
    write_tar(tmp_path / "000.tar", {**members, **texts, "07.png": b"no picture"})
    dataset = CropDataset([open_shards(tmp_path, tmp_path / "cache")], 60, CropSettings(size=32))
    drawn = {str(dataset.draw(dataset.generator(i)).photo) for i in range(60)}
    assert drawn == {f"{tmp_path}/000.tar: {name}" for name in members if name not in ("05.png", "07.png")}
    for what in ("07.png", "the text of 05.png: is not UTF-8"):
        assert len([line for line in caplog.messages if f"left out: {tmp_path}/000.tar: {what}" in line]) == 1
    assert list(dataset.sources[0].images.texts()) == ["three"]  # type: ignore[attr-defined]
    (tmp_path / "000.tar").unlink()
    dataset = CropDataset(dataset.sources, 1, CropSettings(size=32))
    with pytest.raises(DatasetError, match=r"000\.tar: .*\.png is read from it"):
        dataset[0]
    assert dataset.health.count == 0
