"""Latents of fixed crops in the tensor cache, so that training need not encode the truth again at every step."""

from __future__ import annotations

import dataclasses
import json
import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tsdsr.data.datasets import Crop, CropSettings, fixed_crop
from tsdsr.data.photographs import PhotoSource, count_photos
from tsdsr.data.tensor_cache import TensorCache
from tsdsr.data.unreadable_files import UnreadableFiles
from tsdsr.files import StrPath
from tsdsr.hashing import fingerprint_folder
from tsdsr.models.latents import encode_images
from tsdsr.models.network_folders import load_part
from tsdsr.models.zoo import ModelSpec
from tsdsr.training.precision import autocast

logger = logging.getLogger(__name__)

Progress = Callable[[Iterable[Any], int], Iterator[Any]]


def latent_cache(folder: Path, spec: ModelSpec, base: Path, crops: CropSettings, dtype: torch.dtype) -> TensorCache:
    """Open the cache of the latents of fixed crops. Its keys name photograph and crop, see :func:`fixed_crop`.

    Args:
        folder (Path): folder of all caches of a base model.
        spec (ModelSpec): the base model.
        base (Path): its diffusers folder.
        crops (CropSettings): how crops are cut; their number may grow.
        dtype (torch.dtype): autocast precision of the encoder, that of the training run.

    Raises:
        DatasetError: the cache was made with another model, crops or precision.
    """
    cut = {name: value for name, value in dataclasses.asdict(crops).items() if name != "fixed"}
    maker = {
        "model": spec.name,
        "fingerprint": fingerprint_folder(base, ("vae",)),
        "crops": json.dumps(cut, sort_keys=True),
        "precision": str(dtype).removeprefix("torch."),
    }
    return TensorCache(folder / "latents", maker)


def cache_latents(
    sources: Sequence[PhotoSource],
    base: StrPath,
    spec: ModelSpec,
    output: StrPath,
    crops: CropSettings,
    device: torch.device | str,
    dtype: torch.dtype,
    batch: int = 4,
    progress: Progress = lambda items, total: iter(items),
) -> int:
    """Encode the fixed crops of every photograph that are not cached yet, as training encodes them.

    The autoencoder has its weights in float32 and computes under autocast; latents are stored in float32. Photographs
    that cannot be decoded or are smaller than the crops are reported and skipped; too many are an error.

    Args:
        sources (sequence of PhotoSource): photographs.
        base (str | PathLike): diffusers folder with the autoencoder.
        spec (ModelSpec): the base model.
        output (str | PathLike): folder of the cache.
        crops (CropSettings): how crops are cut, and how many of a photograph.
        device, dtype: where to encode, and in which autocast precision.
        batch (int): crops per call.
        progress (callable): wraps the iteration over photographs.

    Returns:
        int: number of latents in the cache.

    Raises:
        DatasetError: the cache was made with another model, crops or precision, or too many images are unusable.
    """
    device = torch.device(device)
    cache = latent_cache(Path(output), spec, Path(base), crops, dtype)
    vae = load_part(spec.vae_class, Path(base) / "vae").to(device).eval()
    todo: list[Crop] = []

    def encode() -> None:
        x = torch.stack([crop.image for crop in todo]).to(device)
        with torch.no_grad(), autocast(device, dtype):
            z = encode_images(vae, x)
        for crop, latent in zip(todo, z, strict=True):
            cache.add(crop.key, {"z_hq": latent})
        todo.clear()

    with cache:
        for crop in progress(_missing(sources, crops, cache), count_photos(sources) * crops.fixed):
            todo += [crop] if crop is not None else []
            if len(todo) == batch:
                encode()
        if todo:
            encode()
    return len(cache)


def _missing(sources: Sequence[PhotoSource], crops: CropSettings, cache: TensorCache) -> Iterator[Crop | None]:
    """Yield every fixed crop that is not cached, and None in the place of the others. Photographs come in order."""
    health = UnreadableFiles(count_photos(sources))
    photos = (photo for source in sources for photo in source.images)
    for number, photo in enumerate(photos):
        loaded = health.load(number, photo, crops.size)
        for which in range(crops.fixed):
            crop = None if loaded is None else fixed_crop(photo, loaded, crops, which)
            yield None if crop is None or crop.key in cache else crop


class TrueLatents:
    """Latents of the truth: read from the cache where it has them, else encoded.

    Args:
        cache (TensorCache | None): see :func:`latent_cache`; None encodes all.
    """

    def __init__(self, cache: TensorCache | None = None) -> None:
        self._cache = cache
        self._told = False

    def of(self, vae: Any, x_hq: Tensor, keys: Sequence[str]) -> Tensor:
        """Return ``z_hq`` (B, C, h, w), float32; to be called as a network is, under ``no_grad`` and autocast.

        Args:
            vae (nn.Module): the frozen autoencoder.
            x_hq (Tensor): true images (B, 3, H, W) in [0, 1].
            keys (sequence of str): names of the crops; empty for those that are not fixed.
        """
        cache = self._cache
        if cache is None:
            return encode_images(vae, x_hq)
        found = {i: cache[key]["z_hq"].to(x_hq.device) for i, key in enumerate(keys) if key in cache}
        missing = [i for i in range(len(x_hq)) if i not in found]
        if missing:
            if not self._told:
                logger.warning("%s: does not have the latents of all crops; others are encoded", cache.folder)
                self._told = True
            found |= dict(zip(missing, encode_images(vae, x_hq[missing]), strict=True))
        return torch.stack([found[i] for i in range(len(x_hq))])
