from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from tsdsr.data.cache import TensorCache, folder_fingerprint, image_key, text_key
from tsdsr.errors import DatasetError

MAKER = {"model": "sd3", "fingerprint": "abc"}


def entry(i: int) -> dict[str, torch.Tensor]:
    return {"hidden": torch.full((2, 3), float(i)), "pooled": torch.full((4,), float(-i), dtype=torch.float16)}


def fill(folder: Path, numbers: range) -> TensorCache:
    with TensorCache(folder, MAKER, per_shard=4) as cache:
        for i in numbers:
            cache.add(text_key(str(i)), entry(i))
    return cache


def test_entries_come_back(tmp_path: Path) -> None:
    fill(tmp_path / "c", range(10))
    cache = TensorCache(tmp_path / "c", MAKER)
    assert len(cache) == len(list(cache)) == 10
    for i in range(10):
        found = cache[text_key(str(i))]
        assert found.keys() == {"hidden", "pooled"}
        assert torch.equal(found["hidden"], entry(i)["hidden"])
        assert found["pooled"].dtype == torch.float16
    assert text_key("10") not in cache
    with pytest.raises(KeyError):
        cache[text_key("10")]
    assert len(list((tmp_path / "c").glob("*.safetensors"))) == 3


def test_it_grows_and_never_overwrites(tmp_path: Path) -> None:
    fill(tmp_path, range(6))
    with TensorCache(tmp_path, MAKER) as cache:
        cache.add(text_key("3"), entry(99))
        cache.add(text_key("7"), entry(7))
        assert torch.equal(cache[text_key("7")]["hidden"], entry(7)["hidden"])
    again = TensorCache(tmp_path, MAKER)
    assert len(again) == 7
    assert torch.equal(again[text_key("3")]["hidden"], entry(3)["hidden"])


def test_a_killed_run_loses_at_most_the_unfinished_shard(tmp_path: Path) -> None:
    cache = TensorCache(tmp_path, MAKER, per_shard=4)
    for i in range(10):
        cache.add(text_key(str(i)), entry(i))
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


def test_keys_follow_content() -> None:
    picture = np.arange(48, dtype=np.uint8).reshape(4, 4, 3)
    assert image_key(picture) == image_key(picture.copy())
    assert image_key(picture) != image_key(picture.reshape(2, 8, 3))
    assert image_key(picture) != image_key(picture[::-1])
    assert text_key("a") != text_key("b")


def test_fingerprints_notice_other_weights(tmp_path: Path) -> None:
    (tmp_path / "vae").mkdir()
    (tmp_path / "vae" / "config.json").write_text("{}")
    weights = bytearray(np.random.default_rng(0).bytes(300_000))
    (tmp_path / "vae" / "model.safetensors").write_bytes(weights)
    before = folder_fingerprint(tmp_path, ["vae"])
    assert folder_fingerprint(tmp_path, ["vae"]) == before
    for position in (10, 299_990):
        changed = bytearray(weights)
        changed[position] ^= 1
        (tmp_path / "vae" / "model.safetensors").write_bytes(changed)
        assert folder_fingerprint(tmp_path, ["vae"]) != before
    with pytest.raises(DatasetError, match="no model there"):
        folder_fingerprint(tmp_path, ["unet"])
