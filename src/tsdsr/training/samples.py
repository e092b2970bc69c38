"""Numbered training samples from photographs and their prompts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils.data import Dataset

from tsdsr.data.datasets import CropDataset, CropSettings, PairDataset, PairSettings
from tsdsr.data.sources import Source
from tsdsr.data.unreadable_files import UnreadableFiles


class TrainingSample(NamedTuple):
    """One sample, or a batch of samples with a leading axis.

    Attributes:
        item (int | Tensor): sample number, which determines its random numbers.
        x_lq (Tensor): low-quality image enlarged to the size of the crop, (3, H, W) in [0, 1]; empty for teachers.
        x_hq (Tensor): high-quality image, (3, H, W) in [0, 1].
        prompt (str | list of str): the image's text; empty when there is none.
    """

    item: Any
    x_lq: Tensor
    x_hq: Tensor
    prompt: Any


@dataclass(frozen=True)
class TrainingData:
    """Photographs for training and validation.

    Attributes:
        sources (tuple of Source): training photographs, mixed by weight.
        validation (tuple of Path): held-out photographs.
        prompts (mapping): photograph → text.
    """

    sources: tuple[Source, ...]
    validation: tuple[Path, ...] = ()
    prompts: Mapping[Path, str] = field(default_factory=dict)

    @cached_property
    def health(self) -> UnreadableFiles:
        """Record of unusable training photographs, for all phases of a run, so that each is reported once."""
        return UnreadableFiles([path for source in self.sources for path in source.images])


class PairSamples(Dataset[TrainingSample]):
    """Low- and high-quality pairs with prompts; sample ``i`` depends only on ``(seed, i)``.

    Args:
        sources (sequence of Source): photographs.
        length (int): number of samples.
        settings (PairSettings): crops and degradation.
        seed (int): base seed.
        prompts (mapping): photograph → text; others have none.
        health (UnreadableFiles | None): record of unusable photographs, shared with other datasets.
    """

    def __init__(
        self,
        sources: Sequence[Source],
        length: int,
        settings: PairSettings,
        seed: int,
        prompts: Mapping[Path, str],
        health: UnreadableFiles | None = None,
    ) -> None:
        self.pairs = PairDataset(sources, length, settings, seed, health=health)
        self.prompts = prompts

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, index: int) -> TrainingSample:
        x_lq, x_hq, path = self.pairs.pair_and_path(index)
        return TrainingSample(index, x_lq, x_hq, self.prompts.get(path, ""))


class CropSamples(Dataset[TrainingSample]):
    """High-quality crops with prompts; arguments as :class:`PairSamples`."""

    def __init__(
        self,
        sources: Sequence[Source],
        length: int,
        settings: CropSettings,
        seed: int,
        prompts: Mapping[Path, str],
        health: UnreadableFiles | None = None,
    ) -> None:
        self.crops = CropDataset(sources, length, settings, seed, health=health)
        self.prompts = prompts

    def __len__(self) -> int:
        return len(self.crops)

    def __getitem__(self, index: int) -> TrainingSample:
        x_hq, path = self.crops.crop_and_path(self.crops.generator(index))
        return TrainingSample(index, torch.empty(0), x_hq, self.prompts.get(path, ""))
