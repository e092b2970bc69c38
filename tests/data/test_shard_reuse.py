"""A folder of shards holds exactly what its index says, made from the present files."""

from __future__ import annotations

import json
import os
import shutil
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.data.prompted_photos import write_prompted_photos
from tsdsr.data.photographs import ShardPhoto
from tsdsr.data.shard_index import open_shards
from tsdsr.data.shards import write_shards
from tsdsr.data.sources import list_photos
from tsdsr.errors import DatasetError, FileWriteError, InvalidInputError

COUNT = 14


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    return write_prompted_photos(tmp_path / "photos", COUNT)


def pack(photos: Path, out: Path, prompts: bool = True, count: int = COUNT, overwrite: bool = False) -> None:
    texts = photos / "prompts" if prompts else None
    list(write_shards(list_photos(photos)[:count], out, photos, 4, texts, 1, overwrite))


def opened(out: Path) -> list[ShardPhoto]:
    return list(open_shards(out, out.with_name("scanned")).images)


def content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def check_refused_then_replaced(photos: Path, out: Path) -> None:
    before = content(out)
    with pytest.raises(DatasetError, match=r"out: contains shards of other .*--overwrite"):
        pack(photos, out)
    assert before == content(out)
    pack(photos, out, overwrite=True)
    pack(photos, out.with_name("fresh"))
    assert content(out) == content(out.with_name("fresh"))
    shutil.rmtree(out.with_name("fresh"))


def test_shards_of_something_else_are_refused_or_replaced(photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    pack(photos, out, prompts=False)
    check_refused_then_replaced(photos, out)
    pixels = np.full((40, 48, 3), 9, dtype=np.uint8)
    Image.fromarray(pixels).save(photos / "004.png")
    check_refused_then_replaced(photos, out)
    (photos / "prompts" / "010.txt").write_text("picture no 10")
    check_refused_then_replaced(photos, out)
    pack(photos, out, count=5, overwrite=True)
    assert len(list(out.glob("*.tar"))) == 2
    check_refused_then_replaced(photos, out)
    (out / "000003.tar").write_bytes((out / "000003.tar").read_bytes()[:1000])
    check_refused_then_replaced(photos, out)


def test_an_index_of_another_set_is_noticed(photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    pack(photos, out)
    index = json.loads((out / "index.json").read_text())
    index["shards"][0]["keys"] = "0" * 16
    (out / "index.json").write_text(json.dumps(index))
    check_refused_then_replaced(photos, out)


@pytest.mark.parametrize("hashes", [True, False])
def test_an_index_of_an_older_version_is_still_read(photos: Path, tmp_path: Path, hashes: bool) -> None:
    out = tmp_path / "out"
    pack(photos, out)
    new, now = opened(out), content(out)
    index = json.loads((out / "index.json").read_text())
    old = [{name: entry[name] for name in ("name", "samples", "keys")} for entry in index["shards"]]
    for entry in old if not hashes else ():
        del entry["keys"]
    (out / "index.json").write_text(json.dumps({"format": 1, "shards": old}))
    assert opened(out) == new
    pack(photos, out)
    assert content(out) == now
    if hashes:
        (out / "index.json").write_text(json.dumps({"format": 1, "shards": [{**old[0], "keys": "0" * 16}, *old[1:]]}))
        shutil.rmtree(tmp_path / "scanned")
        with pytest.raises(DatasetError, match=r"000000\.tar: contains other samples than the index says"):
            opened(out)


def test_a_file_of_someone_else_is_not_removed(photos: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "backup.tar").write_bytes(b"precious")
    with pytest.raises(DatasetError, match=r"backup\.tar: is not a shard of this set; choose another folder"):
        pack(photos, tmp_path / "out", overwrite=True)
    assert content(tmp_path / "out") == {"backup.tar": b"precious"}


def test_prompts_are_checked_before_shards_are_written(photos: Path, tmp_path: Path) -> None:
    images = list_photos(photos)
    with pytest.raises(InvalidInputError, match="no such folder of prompts"):
        list(write_shards(images, tmp_path / "out", photos, 6, tmp_path / "missing"))
    with pytest.raises(DatasetError, match=r"contains no prompt of 14 images, e\.g\. "):
        list(write_shards(images, tmp_path / "out", photos, 6, photos))
    (photos / "prompts" / "002.txt").write_bytes(b"caf\xe9")
    failures: list[str] = []
    list(write_shards(images, tmp_path / "out", photos, 6, photos / "prompts", on_failure=failures.append))
    assert [message.split(": ")[1] for message in failures] == ["is not UTF-8 text; save it in UTF-8"]
    assert len(opened(tmp_path / "out")) == COUNT - 1


def test_names_that_are_not_unicode_survive(photos: Path, tmp_path: Path) -> None:
    name = os.fsdecode(b"caf\xe9")
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / f"{name}.png").write_bytes((photos / "001.png").read_bytes())
    for _ in range(2):
        list(write_shards(list_photos(tmp_path / "in"), tmp_path / "out", tmp_path / "in"))
    (packed,) = opened(tmp_path / "out")
    assert (packed.name, packed.read()[0]) == (f"{name}.png", (photos / "001.png").read_bytes())


def test_a_full_disk_names_the_shard(photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(tarfile.TarFile, "addfile", full)
    with pytest.raises(FileWriteError, match=r"000000\.tar: cannot be written \(No space left"):
        pack(photos, tmp_path / "out")
    assert list((tmp_path / "out").iterdir()) == []
