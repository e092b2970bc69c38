from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

from tsdsr.data.tensor_cache import TensorCache
from tsdsr.errors import DatasetError, FileWriteError
from tsdsr.hashing import hash_text

MAKER = {"model": "sd3", "fingerprint": "abc"}


def entry(i: int) -> dict[str, torch.Tensor]:
    return {"hidden": torch.full((2, 3), float(i)), "pooled": torch.full((4,), float(-i), dtype=torch.float16)}


def fill(folder: Path, numbers: range) -> TensorCache:
    with TensorCache(folder, MAKER, per_shard=4) as cache:
        for i in numbers:
            cache.add(hash_text(str(i)), entry(i))
    return cache


def test_entries_come_back(tmp_path: Path) -> None:
    fill(tmp_path / "c", range(10))
    cache = TensorCache(tmp_path / "c", MAKER)
    assert len(cache) == len(list(cache)) == 10
    for i in range(10):
        found = cache[hash_text(str(i))]
        assert found.keys() == {"hidden", "pooled"}
        assert torch.equal(found["hidden"], entry(i)["hidden"])
        assert found["pooled"].dtype == torch.float16
    assert hash_text("10") not in cache
    with pytest.raises(KeyError):
        cache[hash_text("10")]
    assert len(list((tmp_path / "c").glob("*.safetensors"))) == 3


def test_it_grows_and_never_overwrites(tmp_path: Path) -> None:
    fill(tmp_path, range(6))
    with TensorCache(tmp_path, MAKER) as cache:
        cache.add(hash_text("3"), entry(99))
        cache.add(hash_text("7"), entry(7))
        assert torch.equal(cache[hash_text("7")]["hidden"], entry(7)["hidden"])
    again = TensorCache(tmp_path, MAKER)
    assert len(again) == 7
    assert torch.equal(again[hash_text("3")]["hidden"], entry(3)["hidden"])


def test_a_killed_run_loses_at_most_the_unfinished_shard(tmp_path: Path) -> None:
    cache = TensorCache(tmp_path, MAKER, per_shard=4)
    for i in range(10):
        cache.add(hash_text(str(i)), entry(i))
    del cache  # no flush
    assert len(TensorCache(tmp_path, MAKER)) == 8
    assert len(fill(tmp_path, range(10))) == 10


def test_another_maker_is_refused(tmp_path: Path) -> None:
    fill(tmp_path, range(3))
    with pytest.raises(DatasetError, match=r"fingerprint 'abc' instead of 'xyz'"):
        TensorCache(tmp_path, {**MAKER, "fingerprint": "xyz"})
    with pytest.raises(DatasetError, match="crop None instead of '512'"):
        TensorCache(tmp_path, {**MAKER, "crop": "512"})


def test_a_damaged_shard_is_named(tmp_path: Path) -> None:
    fill(tmp_path, range(3))
    (tmp_path / "00000.safetensors").write_bytes(b"x")
    with pytest.raises(DatasetError, match=r"00000\.safetensors: is damaged"):
        TensorCache(tmp_path, MAKER)


def test_a_cache_that_nothing_describes_is_refused(tmp_path: Path) -> None:
    fill(tmp_path, range(3))
    header = tmp_path / "cache.json"
    for wrong in ("{", "[]", '{"model": 3}'):
        header.write_text(wrong)
        with pytest.raises(DatasetError, match=r"cache\.json: .* make it again"):
            TensorCache(tmp_path, MAKER)
    header.unlink()
    with pytest.raises(DatasetError, match=r"has no cache\.json that says"):
        TensorCache(tmp_path, MAKER)


def test_a_file_of_something_else_is_named(tmp_path: Path) -> None:
    fill(tmp_path, range(3))
    (tmp_path / "model.safetensors").write_bytes(b"x")
    with pytest.raises(DatasetError, match=r"model\.safetensors: is not a file of this cache"):
        TensorCache(tmp_path, MAKER)


def test_a_full_disk_loses_only_the_new_entries(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(tmp_path, range(3))

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(FileWriteError, match=r"00001\.safetensors: cannot be written \(No space left"):
        fill(tmp_path, range(6))
    assert len(TensorCache(tmp_path, MAKER)) == 3
