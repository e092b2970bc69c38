"""Training from shards: the same samples and losses as from the files that are packed in them."""

from __future__ import annotations

import copy
import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader

from tests.s3_server import S3Server, s3_server  # noqa: F401  (a fixture)
from tests.training.tiny import assert_same, packed, trainer, weights
from tsdsr.data.captions import read_prompts
from tsdsr.data.datasets import CropSettings, PairSettings
from tsdsr.data.photographs import photo_name
from tsdsr.data.shard_index import open_shards
from tsdsr.data.sources import open_source
from tsdsr.errors import ConfigError, DatasetError, TrainingError
from tsdsr.recipes import student_recipe
from tsdsr.training import train_student
from tsdsr.training.batches import step_batches
from tsdsr.training.build import training_data
from tsdsr.training.checkpoint import load_checkpoint_facts
from tsdsr.training.config import StudentConfig
from tsdsr.training.samples import PairSamples, TrainingData

CPU: dict[str, Any] = {"device": "cpu", "dtype": "fp32"}
PAIRS = PairSettings(crops=CropSettings(size=32))


def smoke(**changes: Any) -> StudentConfig:
    return dataclasses.replace(student_recipe("mini_smoke"), **changes)


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Photographs whose names shards cannot hold as they are: with dots, and capitals in the suffix."""
    folder = tmp_path_factory.mktemp("photos") / "photos"
    (folder / "b").mkdir(parents=True)
    for number in range(12):
        name = ("b/" if number % 3 == 0 else "") + (f"IMG.v{number}.PNG" if number % 2 else f"{number:02d}.png")
        pixels = np.random.default_rng(number).integers(0, 256, (72, 80, 3), np.uint8)
        Image.fromarray(pixels).save(folder / name)
        text = folder.with_name("prompts") / f"{name.rpartition('.')[0].replace('.', '_')}.txt"
        text.parent.mkdir(parents=True, exist_ok=True)
        text.write_text(f" picture {number}\n")
    return folder


@pytest.fixture(scope="module")
def shards(photos: Path) -> Path:
    return packed(photos, photos.with_name("shards"), photos.with_name("prompts"))


def both(photos: Path, shards: Path) -> tuple[TrainingData, TrainingData]:
    """The same photographs and prompts, twice in each case, from files and from shards."""
    files = [open_source(f"{photos},weight=2"), open_source(f"{photos},limit=7")]
    archives = [open_shards(f"{shards},weight=2", shards), open_shards(f"{shards},limit=7", shards)]
    config = smoke(validation_share=0.2)
    texts = read_prompts([files[0]], photos.with_name("prompts"))
    return training_data(files, config, texts), training_data(archives, config, {})


def samples(data: TrainingData, length: int = 16) -> PairSamples:
    return PairSamples(data, length, PAIRS, seed=3)


def assert_equal(one: Any, other: Any) -> None:
    assert [torch.equal(a, b) if isinstance(a, torch.Tensor) else a == b for a, b in zip(one, other, strict=True)] == [
        True
    ] * len(one)


def test_samples_prompts_and_split_are_those_of_the_files(photos: Path, shards: Path) -> None:
    """To the bit, also from loading processes."""
    files, archives = both(photos, shards)
    assert [photo_name(photo) for photo in files.validation] == [photo_name(photo) for photo in archives.validation]
    assert len(files.validation) >= 2
    prompts = [[data.prompt(photo) for photo in data.validation] for data in (files, archives)]
    assert prompts[0] == prompts[1]
    expected = [samples(files)[i] for i in range(16)]
    assert len({sample.prompt for sample in expected}) > 4
    spawned = copy.deepcopy(samples(archives))  # as pickle does it for a process that is not forked
    for dataset, workers in ((samples(archives), 2), (spawned, 0)):
        loader: DataLoader[Any] = DataLoader(dataset, None, num_workers=workers)
        for one, other in zip(expected, loader, strict=True):
            assert_equal(one, other)


def test_processes_and_workers_see_each_sample_once(photos: Path, shards: Path) -> None:
    files, archives = both(photos, shards)
    phases = tuple(dataclasses.replace(phase, steps=2, batch_size=8) for phase in smoke().phases)
    config = smoke(phases=phases)
    seen = {}
    for rank in (0, 1):
        for (batch,) in step_batches(config, lambda n: samples(archives, n), 0, 2, rank, 2, workers=2):
            for row in range(4):
                item = int(batch.item[row])
                assert item not in seen
                seen[item] = [part[row] for part in batch]
    assert sorted(seen) == list(range(16))
    for item, found in seen.items():
        assert_equal(samples(files)[item][1:], found[1:])


def test_a_run_from_shards_is_the_run_from_files(photos: Path, shards: Path, tmp_path: Path) -> None:
    """To the bit, also if it was interrupted in between."""
    whole = trainer(photos, tmp_path / "files", workers=1)
    whole.run()
    trainer(shards, tmp_path / "shards").run(until=3)
    rest = trainer(shards, tmp_path / "shards", workers=2)
    rest.run()
    assert_same(weights(whole), weights(rest))
    logs = [(tmp_path / name / "log.jsonl").read_text().splitlines() for name in ("files", "shards")]
    losses = [[{k: v for k, v in json.loads(line).items() if "/" in k} for line in lines] for lines in logs]
    assert losses[0] == losses[1]


def test_a_run_mixes_files_with_shards_in_object_storage(
    photos: Path,
    shards: Path,
    tmp_path: Path,
    s3_server: S3Server,  # noqa: F811
) -> None:
    bucket = s3_server.bucket("training")
    (tmp_path / "copies").mkdir()
    for path in shards.glob("*.tar"):  # without their index
        s3_server.put(bucket, path.name, path.read_bytes())
        shutil.copy(path, tmp_path / "copies")
    config = smoke(validation_share=0.2)
    remote = f"{bucket}/{{000000..000003}}.tar,weight=3"
    out = tmp_path / "remote"
    train_student(config, f"{photos},limit=5", out, shards=remote, workers=2, until=1, **CPU)
    indexed = len(s3_server.requests)
    s3_server.fail_next(2, 503, "GET")
    result = train_student(config, f"{photos},limit=5", out, shards=remote, **CPU)
    ranges = [request for request in s3_server.requests[indexed:] if request.startswith("GET ") and ".tar" in request]
    assert 0 < len(ranges) <= 2 * 8 + len(config.phases) * 8 + 2  # photographs drawn, those to validate on, refusals
    local = train_student(config, f"{photos},limit=5", tmp_path / "local", shards=f"{tmp_path}/copies,weight=3", **CPU)
    names = [path.relative_to(result) for path in result.rglob("*.safetensors")]
    assert names
    assert all((result / name).read_bytes() == (local / name).read_bytes() for name in names)
    facts = load_checkpoint_facts(out)
    assert facts is not None
    assert facts["files"]["shards"] == [f"{remote}.0"]


def test_other_shards_are_another_run(photos: Path, shards: Path, tmp_path: Path) -> None:
    out, config = tmp_path / "run", smoke()
    moved = shutil.copytree(shards, tmp_path / "moved")
    train_student(config, None, out, shards=shards, until=1, **CPU)
    train_student(config, None, out, shards=[str(moved)], until=2, **CPU)
    for change in ({"shards": f"{moved},limit=9"}, {"shards": f"{moved},weight=2"}, {"shards": [moved, moved]}):
        with pytest.raises(TrainingError, match=r"photographs: 12 files, .* before, \d+ files, .* now"):
            train_student(config, None, out, **change, **CPU)  # type: ignore[arg-type]
    index = json.loads((moved / "index.json").read_text())
    index["shards"][1]["content"] = "0" * 32
    (moved / "index.json").write_text(json.dumps(index))
    with pytest.raises(TrainingError, match="photographs: 12 files"):
        train_student(config, None, out, shards=moved, **CPU)
    (moved / "000002.tar").write_bytes(b"x")
    with pytest.raises(DatasetError, match=r"000002\.tar: has 1 bytes, but the index says"):
        train_student(config, None, out, shards=moved, **CPU)
    with pytest.raises(ConfigError, match="--prompts has no effect"):
        train_student(
            student_recipe("sd3_paper"),
            None,
            tmp_path / "new",
            shards=moved,
            prompts=photos.with_name("prompts"),
            **CPU,
        )
