"""Latents of fixed crops: the same crops and losses with the cache as without it."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import torch
from PIL import Image

from tests.conftest import tiny_vae
from tests.training.tiny import LORA, TinyPrompts, data, packed, sd3_config, sd3_networks, trainer
from tsdsr.data.datasets import CropDataset, CropSettings, PairDataset, PairSettings, fixed_crop
from tsdsr.data.degradation_presets import PRESETS
from tsdsr.data.photographs import load_photo
from tsdsr.data.shard_index import open_shards
from tsdsr.data.sources import Source, list_photos, open_source
from tsdsr.errors import DatasetError
from tsdsr.models.latents import encode_images
from tsdsr.models.zoo import get_spec
from tsdsr.training import latent_cache as module
from tsdsr.training.build import open_latents
from tsdsr.training.latent_cache import TrueLatents, cache_latents, latent_cache
from tsdsr.training.provenance import RunFiles

SD3, FP32 = get_spec("sd3"), torch.float32
CROPS = CropSettings(size=32, fixed=3)


@pytest.fixture
def base(tmp_path: Path) -> Path:
    tiny_vae(16).save_pretrained(tmp_path / "base" / "vae")
    return tmp_path / "base"


def fill(base: Path, photos: Path, crops: CropSettings = CROPS, **changes: Any) -> int:
    sources = [open_source(photos)]
    return cache_latents(sources, base, SD3, base.with_name("cache"), crops, "cpu", FP32, batch=5, **changes)


def test_fixed_crops_are_those_of_the_photograph(photo_folder: Path, tmp_path: Path) -> None:
    """Whatever the seed and wherever the photograph is stored; no more than three of each."""
    files = Source("files", tuple(list_photos(photo_folder)))
    shards = open_shards(packed(photo_folder, tmp_path / "shards"), tmp_path)
    drawn = {}
    for seed, source in ((0, files), (1, files), (2, shards)):
        dataset = CropDataset([source], 24, CROPS, seed)
        for i in range(24):
            crop = dataset.draw(dataset.generator(i))
            known = drawn.setdefault(crop.key, crop.image)
            assert torch.equal(known, crop.image)
    assert len(drawn) == 12
    loaded = load_photo(files.images[0])
    again = [fixed_crop(files.images[0], loaded, CROPS, number) for number in range(3)]
    assert [torch.equal(drawn[crop.key], crop.image) for crop in again] == [True] * 3


def test_a_truth_that_is_changed_after_cutting_has_no_key(photo_folder: Path) -> None:
    for preset, fixed in (("osediff", True), ("stablesr", False)):
        pairs = PairDataset([open_source(photo_folder)], 4, PairSettings(crops=CROPS, degradation=PRESETS[preset]))
        assert {bool(pairs.draw(i)[1].key) for i in range(4)} == {fixed}


def test_latents_are_those_that_training_encodes(base: Path, photo_folder: Path) -> None:
    Image.new("RGB", (20, 20)).save(photo_folder / "small.png")
    assert fill(base, photo_folder) == 12
    cache = latent_cache(base.with_name("cache"), SD3, base, CROPS, FP32)
    vae = tiny_vae(16)
    dataset = CropDataset([open_source(photo_folder)], 8, CROPS)
    crops = [dataset.draw(dataset.generator(i)) for i in range(8)]
    x_hq, keys = torch.stack([crop.image for crop in crops]), [crop.key for crop in crops]
    with torch.no_grad():
        expected = encode_images(vae, x_hq)
        with mock.patch.object(module, "encode_images", side_effect=AssertionError):
            found = TrueLatents(cache).of(vae, x_hq, keys)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)


def test_an_interrupted_cache_goes_on_and_may_grow(base: Path, photo_folder: Path) -> None:
    class StopError(Exception):
        pass

    def stop(items: Any, total: int) -> Any:
        assert total == 12
        for done, item in enumerate(items):
            if done == 7:
                raise StopError
            yield item

    with pytest.raises(StopError):
        fill(base, photo_folder, progress=stop)
    assert len(latent_cache(base.with_name("cache"), SD3, base, CROPS, FP32)) == 5
    with mock.patch.object(module, "encode_images", wraps=module.encode_images) as encode:
        assert fill(base, photo_folder) == 12
    assert sum(len(call.args[1]) for call in encode.call_args_list) == 7
    assert fill(base, photo_folder, dataclasses.replace(CROPS, fixed=4)) == 16


def test_losses_are_the_same_with_the_cache(
    base: Path, photo_folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Within rounding: latents of a batch differ from those of others. What is not cached is encoded, and said."""
    config = sd3_config(pairs=PairSettings(crops=CROPS))
    files = RunFiles(base=base, cache=base.with_name("cache"))
    fill(base, photo_folder)
    cached = open_latents(config, files, FP32)
    few = TrueLatents(latent_cache(tmp_path / "few", SD3, base, CROPS, FP32))
    results = []
    for latents in (TrueLatents(), cached, few):
        out, photographs = tmp_path / f"run{len(results)}", dataclasses.replace(data(photo_folder), latents=latents)
        networks = sd3_networks(LORA)
        run = trainer(photo_folder, out, config, networks=networks, prompts=TinyPrompts(), data=photographs)
        with mock.patch.object(module, "encode_images", wraps=module.encode_images) as encode:
            run.run()
        results.append(((out / "log.jsonl").read_text(), encode.call_count))
    assert [count > 0 for _, count in results] == [True, False, True]
    lines = [[json.loads(line) for line in log.splitlines()] for log, _ in results]
    losses = [[line["loss/student"] for line in run if "loss/student" in line] for run in lines]
    assert losses[1] == pytest.approx(losses[0], rel=1e-4)
    assert losses[2] == losses[0]
    assert caplog.text.count("does not have the latents of all crops") == 1


def test_a_cache_of_other_crops_or_precision_is_refused_before_training(base: Path, photo_folder: Path) -> None:
    fill(base, photo_folder)
    files = RunFiles(base=base, cache=base.with_name("cache"))
    other = dataclasses.replace(CROPS, shrink_prob=0.1)
    with pytest.raises(DatasetError, match="this cache was made with crops"):
        open_latents(sd3_config(pairs=PairSettings(crops=other)), files, FP32)
    with pytest.raises(DatasetError, match="precision 'float32' instead of 'bfloat16'"):
        open_latents(sd3_config(pairs=PairSettings(crops=CROPS)), files, torch.bfloat16)
    assert open_latents(sd3_config(), files, torch.bfloat16)._cache is None  # fresh crops need none


def test_too_many_unusable_images_are_an_error(base: Path, photo_folder: Path) -> None:
    for i in range(5):
        Image.new("RGB", (20, 20)).save(photo_folder / f"tiny{i}.png")
    with pytest.raises(DatasetError, match=r"tiny3\.png"):
        fill(base, photo_folder)
