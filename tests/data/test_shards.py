from __future__ import annotations

import itertools
import json
import tarfile
from collections.abc import Iterator
from pathlib import Path

import fsspec
import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader
from tsdsr.data.shard_stream import ShardCrops, ShardStream, shard_loader

from tests.data.prompted_photos import write_prompted_photos
from tests.images.unusual import write_float, write_unusual
from tsdsr.data.datasets import CropSettings
from tsdsr.data.shard_file import ShardSample
from tsdsr.data.shards import read_index, write_shards
from tsdsr.data.sources import list_photos
from tsdsr.errors import DatasetError, InvalidInputError

COUNT = 46


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_prompted_photos(tmp_path_factory.mktemp("shards") / "photos", COUNT)


def pack(photos: Path, out: Path, per_shard: int = 6) -> str:
    list(write_shards(list_photos(photos), out, photos, per_shard, photos / "prompts"))
    return str(out)


@pytest.fixture(scope="module")
def shards(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    return pack(photos, tmp_path_factory.mktemp("shards"))


def keys(stream: ShardStream, workers: int) -> list[str]:
    loader: DataLoader[ShardSample] = DataLoader(stream, batch_size=None, num_workers=workers)
    return [sample.key for sample in loader]


def test_bytes_and_prompts_arrive_unchanged(photos: Path, shards: str) -> None:
    samples = {s.key: s for s in ShardStream(shards, epochs=1)}
    assert len(samples) == len(ShardStream(shards)) == COUNT
    assert samples["b/006"].image == (photos / "b" / "006.png").read_bytes()
    assert samples["b/006"].prompt == "picture 6"
    assert samples["001"].prompt is None
    assert samples["001"].pixels().shape == (40, 48, 3)


def test_the_files_are_webdataset(shards: str) -> None:
    index = read_index(shards)
    assert [n for _, n in index] == [6] * 7 + [4]
    with tarfile.open(index[0][0]) as tar:
        names = tar.getnames()
    assert len({n.split(".")[0] for n in names}) == 6
    webdataset = pytest.importorskip("webdataset", reason="webdataset is not installed")
    read = [s["__key__"] for s in webdataset.WebDataset([u for u, _ in index], shardshuffle=False)]
    assert sorted(read) == sorted(s.key for s in ShardStream(shards, epochs=1))


@pytest.mark.parametrize("workers", [0, 2])
def test_ranks_and_workers_share_without_overlap_or_loss(shards: str, workers: int) -> None:
    parts = [keys(ShardStream(shards, seed=5, rank=rank, world=2, epochs=1), workers) for rank in (0, 1)]
    assert len(parts[0] + parts[1]) == COUNT
    assert len(set(parts[0]) | set(parts[1])) == COUNT
    assert min(len(part) for part in parts) > COUNT // 4


def test_epochs_and_seeds_change_the_order(shards: str) -> None:
    two = [s.key for s in ShardStream(shards, seed=1, epochs=2)]
    assert sorted(two[:COUNT]) == sorted(two[COUNT:])
    assert two[:COUNT] != two[COUNT:]
    assert two[:COUNT] == [s.key for s in ShardStream(shards, seed=1, epochs=1)]
    assert two[:COUNT] != [s.key for s in ShardStream(shards, seed=2, epochs=1)]


def test_shards_come_in_another_order_in_every_epoch(photos: Path, tmp_path: Path) -> None:
    """With one sample per shard, only the order of shards remains."""
    two = [s.key for s in ShardStream(pack(photos, tmp_path, per_shard=1), seed=1, epochs=2)]
    assert sorted(two[:COUNT]) == sorted(two[COUNT:])
    assert two[:COUNT] != two[COUNT:]


def batches(shards: str, workers: int, skip: int = 0, rank: int = 1) -> Iterator[list[str]]:
    stream = ShardStream(shards, seed=3, rank=rank, world=2, batch_size=3, skip_batches=skip)
    for batch in shard_loader(ShardCrops(stream, CropSettings(size=32)), workers):
        yield batch["key"]


@pytest.mark.parametrize("workers", [0, 2])
def test_it_resumes_at_any_batch(shards: str, workers: int) -> None:
    """Over more than one epoch: the batches after skipping n are those that would have come."""
    whole = list(itertools.islice(batches(shards, workers), 20))
    for skip in (1, 4, 7, 11):
        rest = list(itertools.islice(batches(shards, workers, skip), 20 - skip))
        assert rest == whole[skip:]


def test_crops_depend_on_seed_epoch_and_key_only(shards: str) -> None:
    def crops(rank: int, world: int) -> dict[str, torch.Tensor]:
        stream = ShardStream(shards, seed=3, rank=rank, world=world, epochs=1)
        return {item["key"]: item["image"] for item in ShardCrops(stream, CropSettings(size=32))}

    alone = crops(0, 1)
    split = {**crops(0, 2), **crops(1, 2)}
    assert all(torch.equal(alone[k], split[k]) for k in alone)
    assert next(iter(alone.values())).shape == (3, 32, 32)
    items = list(ShardCrops(ShardStream(shards, seed=3, epochs=2), CropSettings(size=32)))
    again = {item["key"]: item["image"] for item in items[COUNT:]}
    assert not all(torch.equal(alone[k], again[k]) for k in alone)


def test_any_address_fsspec_opens(shards: str) -> None:
    memory = fsspec.filesystem("memory")
    for path in Path(shards).iterdir():
        memory.pipe(f"/bucket/{path.name}", path.read_bytes())
    remote = [s.key for s in ShardStream("memory://bucket", seed=1, epochs=1)]
    assert remote == [s.key for s in ShardStream(shards, seed=1, epochs=1)]


def test_writing_goes_on_where_it_stopped(photos: Path, tmp_path: Path) -> None:
    writer = write_shards(list_photos(photos), tmp_path, photos, 6, photos / "prompts")
    first = next(writer)
    stamp = first.stat().st_mtime_ns
    writer.close()
    assert not (tmp_path / "index.json").exists()
    pack(photos, tmp_path)
    assert first.stat().st_mtime_ns == stamp
    assert len(read_index(str(tmp_path))) == 8
    with pytest.raises(DatasetError, match="--overwrite"):
        pack(photos, tmp_path, per_shard=10)
    list(write_shards(list_photos(photos), tmp_path, photos, 10, photos / "prompts", overwrite=True))
    assert [n for _, n in read_index(str(tmp_path))] == [10, 10, 10, 10, 6]
    assert len(list(tmp_path.glob("*.tar"))) == 5
    assert len({s.key for s in ShardStream(str(tmp_path), epochs=1)}) == COUNT


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
    assert "broken" not in {s.key for s in ShardStream(str(tmp_path / "out"), epochs=1)}
    with pytest.raises(DatasetError, match=r"none of \d+ images can be used"):
        list(write_shards(list_photos(tmp_path / "in"), tmp_path / "none", tmp_path / "in", min_side=41))


def test_samples_show_what_the_file_shows(tmp_path: Path) -> None:
    path, shown = write_unusual(tmp_path, "grey16.png")
    assert np.array_equal(ShardSample("a", path.read_bytes(), ".png").pixels(), shown)
    with pytest.raises(DatasetError, match="sample b: holds floating-point values"):
        ShardSample("b", write_float(tmp_path).read_bytes(), ".tif").pixels()


def test_errors_say_what_is_wrong(photos: Path, shards: str, tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="tsdsr data shard"):
        ShardStream(str(tmp_path))
    with pytest.raises(DatasetError, match="8 shards are too few for 9"):
        list(ShardStream(shards, rank=0, world=9))
    with pytest.raises(InvalidInputError, match="rank"):
        ShardStream(shards, rank=2, world=2)
    with pytest.raises(DatasetError, match="smaller than the crops"):
        next(iter(ShardCrops(ShardStream(shards), CropSettings(size=64))))
    for name in Path(shards).iterdir():
        (tmp_path / name.name).write_bytes(name.read_bytes())
    index = json.loads((tmp_path / "index.json").read_text())
    index["shards"][0]["samples"] = 5
    (tmp_path / "index.json").write_text(json.dumps(index))
    with pytest.raises(DatasetError, match="the index says 5"):
        list(ShardStream(str(tmp_path), epochs=1))
    (tmp_path / "000001.tar").write_bytes(b"no tar file at all" * 100)
    with pytest.raises(DatasetError, match=r"not a readable tar|the index says"):
        list(ShardStream(str(tmp_path), epochs=1))
    (photos / "b.000.png").write_bytes((photos / "001.png").read_bytes())
    (photos / "b_000.png").write_bytes((photos / "001.png").read_bytes())
    try:
        with pytest.raises(InvalidInputError, match="'b_000'"):
            list(write_shards(list_photos(photos), tmp_path / "clash", photos))
    finally:
        (photos / "b.000.png").unlink()
        (photos / "b_000.png").unlink()
