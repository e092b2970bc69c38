"""Photographs on disk → endless, reproducible streams of (low-quality, high-quality) pairs."""

from __future__ import annotations

import zlib
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor
from torch.utils.data import Dataset

from tsdsr.data.operators import resize
from tsdsr.data.simple import SimpleDegradation
from tsdsr.errors import ConfigError, ImageReadError, InvalidInputError
from tsdsr.resize import upsample_bicubic

PHOTO_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".webp", ".tif", ".tiff", ".bmp"})


def list_photos(folder: Path) -> list[Path]:
    """All image files below ``folder``, sorted.

    Raises:
        InvalidInputError: the folder is missing or holds no image.
    """
    photos = sorted(p for p in Path(folder).rglob("*") if p.suffix.lower() in PHOTO_SUFFIXES)
    if not photos:
        raise InvalidInputError(
            f"{folder}: no photographs found; give a folder that holds PNG, JPEG, WebP or TIFF files"
        )
    return photos


def split_photos(photos: Sequence[Path], validation_share: float) -> tuple[list[Path], list[Path]]:
    """Split into (training, validation) by a hash of the file name: stable whatever is added or removed."""
    held_out = [p for p in photos if zlib.crc32(p.name.encode()) % 10_000 < validation_share * 10_000]
    return [p for p in photos if p not in set(held_out)], held_out


@dataclass(frozen=True)
class PairSettings:
    """How a training pair is cut and degraded.

    Attributes:
        crop (int): edge of the high-quality crop in pixels.
        scale (float): the scale the low-quality image is made for.
        other_scale_prob (float): probability of a scale drawn from ``other_scales`` instead.
        other_scales (tuple): range of those scales.
        shrink_prob (float): probability of shrinking the photograph first, for sharper and denser detail.
        min_shrink (float): the strongest shrink factor.
        min_std (float): crops whose grey values deviate less than this (of 1) are redrawn, up to eight times.
        degradation (SimpleDegradation): the ranges of the degradation.
    """

    crop: int = 128
    scale: float = 4.0
    other_scale_prob: float = 0.2
    other_scales: tuple[float, float] = (1.5, 4.0)
    shrink_prob: float = 0.5
    min_shrink: float = 0.5
    min_std: float = 0.02
    degradation: SimpleDegradation = field(default_factory=SimpleDegradation)

    def __post_init__(self) -> None:
        if self.crop < 16:
            raise ConfigError(f"crop must be at least 16 pixels, got {self.crop}")
        if not 0 < self.min_shrink <= 1:
            raise ConfigError(f"min_shrink must lie in (0, 1], got {self.min_shrink}")
        if self.scale < 1 or not 1 <= self.other_scales[0] <= self.other_scales[1]:
            raise ConfigError("scales must be at least 1")


class PairDataset(Dataset[tuple[Tensor, Tensor]]):
    """Item ``i`` is a pair made from a random crop; it depends on ``(seed, i)`` only, never on workers or order.

    Each item is ``(x_lq, x_hq)``: two tensors (3, crop, crop), RGB in [0, 1], ``x_lq`` already enlarged to the crop's
    size by the same bicubic filter the pipeline uses.

    Args:
        photos (sequence of Path): image files.
        length (int): number of items.
        settings (PairSettings): crop and degradation.
        seed (int): base seed.
        cache_megabytes (int): how much memory decoded photographs may take.
    """

    def __init__(
        self, photos: Sequence[Path], length: int, settings: PairSettings, seed: int = 0, cache_megabytes: int = 2048
    ) -> None:
        if not photos:
            raise InvalidInputError("no photographs to train on")
        self.photos = list(photos)
        self.length = length
        self.settings = settings
        self.seed = seed
        self._cache = PhotoCache(cache_megabytes * 2**20)

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        rng = np.random.default_rng((self.seed, index))
        s = self.settings
        for _ in range(8):
            x_hq = self._crop(rng)
            if float(x_hq.mean(0).std()) >= s.min_std:
                break
        if rng.random() < 0.5:
            x_hq = x_hq.flip(-1)
        x_hq = torch.rot90(x_hq, int(rng.integers(4)), (-2, -1)).contiguous()
        scale = rng.uniform(*s.other_scales) if rng.random() < s.other_scale_prob else s.scale
        small = max(1, round(s.crop / scale))
        x_lq = s.degradation(x_hq, (small, small), rng)
        return upsample_bicubic(x_lq[None], (s.crop, s.crop))[0], x_hq

    def _crop(self, rng: np.random.Generator) -> Tensor:
        s = self.settings
        photo = self._cache.read(self.photos[rng.integers(len(self.photos))])
        height, width = photo.shape[:2]
        shrink = rng.uniform(s.min_shrink, 1) if rng.random() < s.shrink_prob else 1.0
        side = min(round(s.crop / shrink), height, width)
        y, x = int(rng.integers(height - side + 1)), int(rng.integers(width - side + 1))
        crop = torch.from_numpy(photo[y : y + side, x : x + side].copy()).permute(2, 0, 1).float() / 255
        if side == s.crop:
            return crop
        if side < s.crop:  # a photograph smaller than the crop
            return upsample_bicubic(crop[None], (s.crop, s.crop))[0]
        return resize(crop[None], (s.crop, s.crop), "bicubic", antialias=True)[0].clamp(0, 1)


class PhotoCache:
    """Decoded photographs (H, W, 3) uint8, the least recently used dropped first.

    Args:
        max_bytes (int): how much the decoded pixels may take together.
    """

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self._photos: OrderedDict[Path, np.ndarray] = OrderedDict()
        self._bytes = 0

    def read(self, path: Path) -> np.ndarray:
        """The pixels of ``path``, orientation applied.

        Raises:
            ImageReadError: the file cannot be decoded.
        """
        if path in self._photos:
            self._photos.move_to_end(path)
            return self._photos[path]
        try:
            with Image.open(path) as image:
                pixels = np.asarray(ImageOps.exif_transpose(image).convert("RGB"))
        except (OSError, UnidentifiedImageError, Image.DecompressionBombError) as error:
            raise ImageReadError(f"{path}: cannot be decoded ({error}); remove it from the training folder") from error
        self._photos[path] = pixels
        self._bytes += pixels.nbytes
        while self._bytes > self.max_bytes and len(self._photos) > 1:
            self._bytes -= self._photos.popitem(last=False)[1].nbytes
        return pixels
