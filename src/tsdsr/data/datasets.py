"""Datasets of random crops and of (low-quality, high-quality) training pairs, reproducible by seed and index."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Annotated, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from tsdsr.data.camera import CameraDegradation
from tsdsr.data.degradation_presets import DegradationSettings
from tsdsr.data.first_order import FirstOrderDegradation
from tsdsr.data.operators import resize
from tsdsr.data.photographs import LoadedPhoto, Photo, PhotoCache, PhotoSource, count_photos
from tsdsr.data.second_order import SecondOrderDegradation
from tsdsr.data.unreadable_files import UnreadableFiles
from tsdsr.errors import ConfigError
from tsdsr.field_checks import Between, CountOrZero, NonNegative, Probability, check_fields
from tsdsr.pixels import to_tensor
from tsdsr.resize import upsample_bicubic


@dataclass(frozen=True)
class CropSettings:
    """Settings for cropping photographs.

    Attributes:
        size (int): edge in pixels. Photographs with a smaller side are skipped.
        shrink_prob (float): probability of downscaling the photograph first, for sharper and denser detail.
        min_shrink (float): smallest downscaling factor.
        enlarge_prob (float): probability of upscaling instead, for crops as soft as native camera pixels.
        max_enlarge (float): largest upscaling factor.
        min_std (float): crops with a standard deviation of grey values (in [0, 1]) below this are redrawn, with at most
            eight attempts.
        flip (bool): mirror crops with probability 0.5.
        rotate (bool): rotate by a random multiple of 90 degrees.
        fixed (int): number of fixed crops of each photograph, whose latents can be cached; 0 cuts a fresh crop for
            every sample. Fixed crops depend on the photograph's content and these settings only, not on the seed.
    """

    size: Annotated[int, Between(16, 2**31 - 1)] = 128
    shrink_prob: Probability = 0.5
    min_shrink: Annotated[float, Between(0, 1, open_low=True)] = 0.5
    enlarge_prob: Probability = 0.0
    max_enlarge: Annotated[float, Between(1)] = 1.6
    min_std: NonNegative = 0.02
    flip: bool = True
    rotate: bool = True
    fixed: CountOrZero = 0

    def __post_init__(self) -> None:
        check_fields(self)
        if self.shrink_prob + self.enlarge_prob > 1:
            raise ConfigError("shrink_prob and enlarge_prob must not exceed 1 together")


AnyDegradation = FirstOrderDegradation | CameraDegradation | DegradationSettings
Scale = Annotated[float, Between(1)]


@dataclass(frozen=True)
class PairSettings:
    """Settings for training pairs.

    Attributes:
        crops (CropSettings): settings for the high-quality crop.
        degradation (FirstOrderDegradation | CameraDegradation | DegradationSettings): degradation of the crop.
        others (tuple): (probability, degradation) pairs; each replaces ``degradation`` with its probability.
        truth (tuple | None): probability and camera. With this probability, the ground truth is the camera's picture of
            the crop, as in benchmarks of real photographs. The low-quality image is made from the crop itself.
        scale (float): scale factor of the low-quality image.
        other_scale_prob (float): probability of a scale factor from ``other_scales`` instead.
        other_scales (tuple): range of those scale factors.
    """

    crops: CropSettings = field(default_factory=CropSettings)
    degradation: AnyDegradation = field(default_factory=FirstOrderDegradation)
    others: tuple[tuple[Probability, AnyDegradation], ...] = ()
    truth: tuple[Probability, CameraDegradation] | None = None
    scale: Scale = 4.0
    other_scale_prob: Probability = 0.2
    other_scales: tuple[Scale, Scale] = (1.5, 4.0)

    def __post_init__(self) -> None:
        check_fields(self)
        if self.other_scales[0] > self.other_scales[1]:
            raise ConfigError(f"other_scales must be an increasing range, got {self.other_scales}")
        if math.fsum(share for share, _ in self.others) > 1:
            raise ConfigError("the probabilities of others must not exceed 1 together")

    def choose(self, rng: np.random.Generator) -> AnyDegradation:
        """Choose a degradation at random. If there is only one, no random number is drawn."""
        if not self.others:
            return self.degradation
        left = rng.random()
        for share, degradation in self.others:
            left -= share
            if left < 0:
                return degradation
        return self.degradation


class Crop(NamedTuple):
    """A crop and where it comes from.

    Attributes:
        image (Tensor): (3, size, size) in [0, 1].
        photo (Photo): its photograph.
        text (str): the photograph's prompt, if it is in a shard with one; else empty.
        key (str): name of a fixed crop, equal in all runs; empty for others.
    """

    image: Tensor
    photo: Photo
    text: str = ""
    key: str = ""


class CropDataset(Dataset[Tensor]):
    """Dataset of random high-quality crops (3, size, size) in [0, 1]. Item ``i`` depends only on ``(seed, i)``.

    Damaged or too small images are reported once, skipped and counted. Too many of them are an error. After a skipped
    image, another one is drawn with the item's own generator.

    Args:
        sources (sequence of PhotoSource): images, mixed by weight.
        length (int): number of items.
        settings (CropSettings): how crops are cut.
        seed (int): base seed.
        cache_megabytes (int): how much memory decoded photographs may take, in each loader process.
        health (UnreadableFiles | None): record of unusable images, shared with other datasets of the same sources.
    """

    def __init__(
        self,
        sources: Sequence[PhotoSource],
        length: int,
        settings: CropSettings,
        seed: int = 0,
        cache_megabytes: int = 2048,
        health: UnreadableFiles | None = None,
    ) -> None:
        self.sources = list(sources)
        self.length = length
        self.settings = settings
        self.seed = seed
        self.health = health or UnreadableFiles(count_photos(self.sources))
        self._first = [0, *accumulate(len(source.images) for source in self.sources)]
        weights = np.array([source.weight for source in self.sources])
        self._shares = weights / weights.sum()
        self._cache = PhotoCache(cache_megabytes * 2**20)

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> Tensor:
        return self.crop(self.generator(index))

    def generator(self, index: int) -> np.random.Generator:
        """Create the random generator of an item."""
        return np.random.default_rng((self.seed, index))

    def crop(self, rng: np.random.Generator) -> Tensor:
        """Cut one random crop; ``rng`` is the only source of randomness."""
        return self.draw(rng).image

    def draw(self, rng: np.random.Generator) -> Crop:
        """Cut one random crop, or choose one of the fixed crops of a photograph."""
        if self.settings.fixed:
            photo, loaded = self._photo(rng)
            number = int(rng.integers(self.settings.fixed))
            return fixed_crop(photo, loaded, self.settings, number)
        taken: list[tuple[Photo, LoadedPhoto]] = []

        def pixels() -> np.ndarray:
            taken.append(self._photo(rng))
            return taken[-1][1].pixels

        image = cut_crop(pixels, self.settings, rng)
        return Crop(image, taken[-1][0], taken[-1][1].text)

    def _photo(self, rng: np.random.Generator) -> tuple[Photo, LoadedPhoto]:
        """Choose a random usable photograph and load it."""
        while True:
            source = int(rng.choice(len(self.sources), p=self._shares))
            images = self.sources[source].images
            place = int(rng.integers(len(images)))
            number = self._first[source] + place
            if self.health.is_bad(number):
                self.health.require_enough()
                continue
            photo = images[place]
            loaded = self.health.load(number, photo, self.settings.size, self._cache.load)
            if loaded is not None:
                return photo, loaded


class PairDataset(Dataset[tuple[Tensor, Tensor]]):
    """Dataset of training pairs. Item ``i`` depends only on ``(seed, i)``, not on workers or order.

    An item is ``(x_lq, x_hq)``: two tensors (3, size, size), RGB in [0, 1]. ``x_lq`` is already upscaled to the size of
    the crop, with the bicubic filter that the pipeline uses.

    Args:
        sources (sequence of PhotoSource): images, mixed by weight.
        length (int): number of items.
        settings (PairSettings): crops and degradation.
        seed (int): base seed.
        cache_megabytes (int): how much memory decoded photographs may take, in each loader process.
        health (UnreadableFiles | None): record of unusable images, shared with other datasets of the same sources.
    """

    def __init__(
        self,
        sources: Sequence[PhotoSource],
        length: int,
        settings: PairSettings,
        seed: int = 0,
        cache_megabytes: int = 2048,
        health: UnreadableFiles | None = None,
    ) -> None:
        self.crops = CropDataset(sources, length, settings.crops, seed, cache_megabytes, health)
        self.settings = settings

    def __len__(self) -> int:
        return self.crops.length

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        x_lq, crop = self.draw(index)
        return x_lq, crop.image

    def draw(self, index: int) -> tuple[Tensor, Crop]:
        """Return item ``index`` as ``x_lq`` and the crop, which has no key if its image was changed after cutting."""
        s, rng = self.settings, self.crops.generator(index)
        crop = self.crops.draw(rng)
        x_hq = crop.image
        edge = s.crops.size
        scale = rng.uniform(*s.other_scales) if rng.random() < s.other_scale_prob else s.scale
        low = (max(1, round(edge / scale)),) * 2
        degradation = s.choose(rng)
        if isinstance(degradation, DegradationSettings):
            recipe = SecondOrderDegradation(degradation)
            generator = torch.Generator().manual_seed(int(rng.integers(2**62)))
            x_lq = recipe.apply(x_hq[None], [recipe.draw((edge, edge), generator, low)])[0]
            x_hq = recipe.target(x_hq[None])[0]
        else:
            x_lq = degradation(x_hq, low, rng)
        if s.truth and rng.random() < s.truth[0]:
            x_hq = s.truth[1](x_hq, (edge, edge), rng)
        key = crop.key if x_hq is crop.image or torch.equal(x_hq, crop.image) else ""
        return upsample_bicubic(x_lq[None], (edge, edge))[0], crop._replace(image=x_hq, key=key)


def cut_crop(photo: Callable[[], np.ndarray], settings: CropSettings, rng: np.random.Generator) -> Tensor:
    """Cut one crop from a photograph, preferably with detail.

    Args:
        photo (callable): returns pixels (H, W, 3) uint8, no side below ``settings.size``; called once per attempt.
        settings (CropSettings): crop settings.
        rng (numpy Generator): the only source of randomness.

    Returns:
        Tensor: shape (3, size, size), in [0, 1].
    """
    for _ in range(8):
        crop = _cut(photo(), settings, rng)
        if float(crop.mean(0).std()) >= settings.min_std:
            break
    if settings.flip and rng.random() < 0.5:
        crop = crop.flip(-1)
    return torch.rot90(crop, int(rng.integers(4)), (-2, -1)).contiguous() if settings.rotate else crop.contiguous()


def fixed_crop(photo: Photo, loaded: LoadedPhoto, settings: CropSettings, number: int) -> Crop:
    """Cut the fixed crop with this number, which depends on the photograph's content and the settings only."""
    rng = np.random.default_rng((int(loaded.content[:16], 16), number))
    image = cut_crop(lambda: loaded.pixels, settings, rng)
    return Crop(image, photo, loaded.text, f"{loaded.content[:32]}-{number}")


def _cut(photo: np.ndarray, s: CropSettings, rng: np.random.Generator) -> Tensor:
    height, width = photo.shape[:2]
    factor, chance = 1.0, rng.random()
    if chance < s.shrink_prob:
        factor = rng.uniform(s.min_shrink, 1)
    elif chance < s.shrink_prob + s.enlarge_prob:
        factor = rng.uniform(1, s.max_enlarge)
    side = min(round(s.size / factor), height, width)
    y, x = int(rng.integers(height - side + 1)), int(rng.integers(width - side + 1))
    crop = to_tensor(photo[y : y + side, x : x + side])
    return resize(crop[None], (s.size, s.size), "bicubic", antialias=True)[0].clamp(0, 1)
