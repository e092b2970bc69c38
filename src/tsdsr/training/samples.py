"""Numbered training samples from photographs and their prompts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils.data import Dataset

from tsdsr.data.datasets import Crop, CropDataset, CropSettings, PairDataset, PairSettings
from tsdsr.data.photographs import Photo, PhotoSource, ShardPhoto, count_photos
from tsdsr.data.unreadable_files import UnreadableFiles
from tsdsr.training.config import RunConfig, StudentConfig, TeacherConfig
from tsdsr.training.latent_cache import TrueLatents


class TrainingSample(NamedTuple):
    """One sample, or a batch of samples with a leading axis.

    Attributes:
        item (int | Tensor): sample number, which determines its random numbers.
        x_lq (Tensor): low-quality image enlarged to the size of the crop, (3, H, W) in [0, 1]; empty for teachers.
        x_hq (Tensor): high-quality image, (3, H, W) in [0, 1].
        prompt (str | list of str): the image's text; empty when there is none.
        key (str | list of str): name of a fixed crop, under which its latent may be cached; empty for other crops.
    """

    item: Any
    x_lq: Tensor
    x_hq: Tensor
    prompt: Any
    key: Any = ""


@dataclass(frozen=True)
class TrainingData:
    """Photographs for training and validation.

    Attributes:
        sources (tuple of PhotoSource): training photographs, mixed by weight.
        validation (tuple of Photo): held-out photographs.
        prompts (mapping): photograph → text; those in shards have their texts there.
        latents (TrueLatents): latents of the truth, cached or not.
    """

    sources: tuple[PhotoSource, ...]
    validation: tuple[Photo, ...] = ()
    prompts: Mapping[Path, str] = field(default_factory=dict)
    latents: TrueLatents = field(default_factory=TrueLatents)

    @cached_property
    def health(self) -> UnreadableFiles:
        """Record of unusable training photographs, for all phases of a run, so that each is reported once."""
        return UnreadableFiles(count_photos(self.sources))

    def prompt(self, photo: Photo) -> str:
        """Return a photograph's text, read from its shard if it is in one; empty if there is none."""
        return photo.read_prompt() if isinstance(photo, ShardPhoto) else self.prompts.get(photo, "")


class PairSamples(Dataset[TrainingSample]):
    """Low- and high-quality pairs with prompts; sample ``i`` depends only on ``(seed, i)``.

    Args:
        data (TrainingData): photographs and prompts.
        length (int): number of samples.
        settings (PairSettings): crops and degradation.
        seed (int): base seed.
    """

    def __init__(self, data: TrainingData, length: int, settings: PairSettings, seed: int) -> None:
        self.prompts, self.pairs = data.prompts, PairDataset(data.sources, length, settings, seed, health=data.health)

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, index: int) -> TrainingSample:
        x_lq, crop = self.pairs.draw(index)
        return TrainingSample(index, x_lq, crop.image, _prompt(crop, self.prompts), crop.key)


class CropSamples(Dataset[TrainingSample]):
    """High-quality crops with prompts; arguments as :class:`PairSamples`."""

    def __init__(self, data: TrainingData, length: int, settings: CropSettings, seed: int) -> None:
        self.prompts, self.crops = data.prompts, CropDataset(data.sources, length, settings, seed, health=data.health)

    def __len__(self) -> int:
        return len(self.crops)

    def __getitem__(self, index: int) -> TrainingSample:
        crop = self.crops.draw(self.crops.generator(index))
        return TrainingSample(index, torch.empty(0), crop.image, _prompt(crop, self.prompts), crop.key)


def _prompt(crop: Crop, prompts: Mapping[Path, str]) -> str:
    """Return the text of a crop's photograph; that of a shard has been read with the photograph."""
    return crop.text if isinstance(crop.photo, ShardPhoto) else prompts.get(crop.photo, "")


def crops_of(config: RunConfig) -> CropSettings:
    """Return how a run cuts its crops."""
    if isinstance(config, StudentConfig):
        return config.pairs.crops
    assert isinstance(config, TeacherConfig)
    return config.crops
