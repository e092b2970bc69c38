from __future__ import annotations

import shutil
import tarfile
from pathlib import Path

import numpy as np
import pytest

from tests.data.prompted_photos import write_prompted_photos
from tests.images.unusual import write_float, write_unusual
from tsdsr.data.photographs import load_photo
from tsdsr.data.shard_index import open_shards
from tsdsr.data.shard_photos import ShardPhotos
from tsdsr.data.shards import write_shards
from tsdsr.data.sources import list_photos
from tsdsr.errors import DatasetError, InvalidInputError

COUNT = 46


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_prompted_photos(tmp_path_factory.mktemp("shards") / "photos", COUNT)


def pack(photos: Path, out: Path, per_shard: int = 6) -> Path:
    list(write_shards(list_photos(photos), out, photos, per_shard, photos / "prompts"))
    return out


def opened(shards: Path) -> ShardPhotos:
    return open_shards(shards, shards.with_name("nowhere")).images


@pytest.fixture(scope="module")
def shards(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return pack(photos, tmp_path_factory.mktemp("shards") / "shards")


def test_bytes_prompts_and_order_are_those_of_the_folder(photos: Path, shards: Path) -> None:
    images = opened(shards)
    assert [photo.name for photo in images] == [path.relative_to(photos).as_posix() for path in list_photos(photos)]
    found = {photo.name: photo.read() for photo in images}
    assert found["b/006.png"] == ((photos / "b" / "006.png").read_bytes(), "picture 6")
    assert found["001.png"][1] == ""
    pixels, _, content = load_photo(list_photos(photos)[0])
    packed = load_photo(images[0])
    assert (packed.content, packed.pixels.tolist()) == (content, pixels.tolist())
    assert list(images.texts()) == [text for _, text in found.values() if text]


def test_the_files_are_webdataset(shards: Path) -> None:
    images = opened(shards)
    files = sorted(shards.glob("*.tar"))
    with tarfile.open(files[0]) as tar:
        names = tar.getnames()
    assert len({n.split(".")[0] for n in names}) == 6
    tariterators = pytest.importorskip("webdataset.tariterators", reason="webdataset is not installed")
    read = []
    for path in files:  # opened here, because webdataset leaves the files open that it opens
        with path.open("rb") as stream:
            members = tariterators.tar_file_expander([{"url": str(path), "stream": stream}])
            read += [sample["__key__"] for sample in tariterators.group_by_keys(members)]
    assert [f"{key}.png" for key in read] == [photo.name for photo in images]


def test_shards_beside_those_of_the_index_are_reported(
    photos: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    pack(photos, tmp_path)
    shutil.copy(tmp_path / "000000.tar", tmp_path / "later.tar")
    assert len(opened(tmp_path)) == COUNT
    assert f"{tmp_path}: 1 shard is not in index.json and not used, e.g. later.tar" in caplog.messages


def test_writing_goes_on_where_it_stopped(photos: Path, tmp_path: Path) -> None:
    writer = write_shards(list_photos(photos), tmp_path, photos, 6, photos / "prompts")
    first = next(writer)
    stamp = first.stat().st_mtime_ns
    writer.close()
    assert not (tmp_path / "index.json").exists()
    pack(photos, tmp_path)
    assert first.stat().st_mtime_ns == stamp
    assert len({photo.shard for photo in opened(tmp_path)}) == 8
    with pytest.raises(DatasetError, match="--overwrite"):
        pack(photos, tmp_path, per_shard=10)
    list(write_shards(list_photos(photos), tmp_path, photos, 10, photos / "prompts", overwrite=True))
    assert len(list(tmp_path.glob("*.tar"))) == len({photo.shard for photo in opened(tmp_path)}) == 5
    assert len({photo.name for photo in opened(tmp_path)}) == COUNT


def test_unusable_images_are_left_out_when_writing(photos: Path, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    for path in photos.glob("*.png"):
        (tmp_path / "in" / path.name).write_bytes(path.read_bytes())
    (tmp_path / "in" / "broken.png").write_bytes(b"x")
    write_float(tmp_path / "in")
    (tmp_path / "in" / "gone.png").symlink_to(tmp_path / "nowhere")
    failures: list[str] = []
    list(write_shards(list_photos(tmp_path / "in"), tmp_path / "out", tmp_path / "in", on_failure=failures.append))
    assert [Path(message.split(":")[0]).name for message in failures] == ["broken.png", "float.tif", "gone.png"]
    unnamed = (tmp_path / "in" / "001.png").rename(tmp_path / "in" / "001.bin")  # as a list may name it
    list(write_shards([tmp_path / "in" / "004.png", unnamed], tmp_path / "some", tmp_path / "in"))
    assert [photo.name for photo in opened(tmp_path / "some")] == ["004.png"]
    assert "broken.png" not in {photo.name for photo in opened(tmp_path / "out")}
    with pytest.raises(DatasetError, match=r"none of \d+ images can be used"):
        list(write_shards(list_photos(tmp_path / "in"), tmp_path / "none", tmp_path / "in", min_side=41))


def test_photographs_show_what_their_files_show(tmp_path: Path) -> None:
    path, shown = write_unusual(tmp_path, "grey16.png")
    list(write_shards([path], tmp_path / "out", tmp_path))
    assert np.array_equal(load_photo(opened(tmp_path / "out")[0]).pixels, shown)


def test_two_photographs_of_one_key_are_refused(photos: Path, tmp_path: Path) -> None:
    images = [tmp_path / "b.000.png", tmp_path / "b_000.png"]
    for image in images:
        image.write_bytes((photos / "001.png").read_bytes())
    with pytest.raises(InvalidInputError, match="'b_000'"):
        list(write_shards(images, tmp_path / "clash", tmp_path))
