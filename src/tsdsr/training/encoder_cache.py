"""Outputs of the frozen encoders in the tensor cache: text embeddings and high-quality latents."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tsdsr.data.tensor_cache import TensorCache
from tsdsr.data.unreadable_files import UnreadableFiles
from tsdsr.errors import DatasetError, InvalidInputError
from tsdsr.files import StrPath
from tsdsr.hashing import fingerprint_folder, hash_pixels, hash_text
from tsdsr.models.conditioning import Conditioning
from tsdsr.models.latents import encode_images
from tsdsr.models.network_folders import load_part
from tsdsr.models.text import assemble, encode_prompts
from tsdsr.models.text_parts import TextPart
from tsdsr.models.zoo import ModelSpec
from tsdsr.pixels import to_tensor

Progress = Callable[[Iterable[Any], int], Iterator[Any]]


def text_cache(output: Path, part: TextPart, spec: ModelSpec, base: Path, dtype: torch.dtype) -> TensorCache:
    """Open the cache of one text encoder's outputs. Its keys are hashes of prompts."""
    maker = {
        "model": spec.name,
        "part": part.name,
        "fingerprint": fingerprint_folder(base, (part.encoder, part.tokenizer)),
        "dtype": str(dtype),
    }
    return TensorCache(output / "text" / part.name, maker)


def cache_prompts(
    prompts: Sequence[str],
    base: StrPath,
    spec: ModelSpec,
    output: StrPath,
    device: torch.device | str,
    dtype: torch.dtype,
    batch: int = 8,
    t5: bool = True,
    on_batch: Callable[[TextPart, int, int], None] | None = None,
) -> int:
    """Encode every prompt that is not cached yet, one encoder at a time.

    Args:
        prompts (sequence of str): texts.
        base (str | PathLike): diffusers folder with the text encoders.
        spec (ModelSpec): the base model.
        output (str | PathLike): folder of the cache.
        device, dtype: where to encode, and the precision to encode and store in.
        batch (int): prompts per call.
        t5 (bool): whether to run SD3's T5.
        on_batch (callable | None): called with (part, finished, total).

    Returns:
        int: number of distinct prompts in the cache.

    Raises:
        InvalidInputError: the base model takes no text.
        DatasetError: the cache was made with another model or precision.
    """
    base = Path(base)
    output = Path(output)
    parts = [part for part in spec.text_parts if t5 or part.kind != "t5"]
    if not parts:
        raise InvalidInputError(f"{spec.name!r} takes no text")
    caches = {part: text_cache(output, part, spec, base, dtype) for part in parts}

    def store(part: TextPart, prompt: str, tensors: dict[str, Tensor]) -> None:
        caches[part].add(hash_text(prompt), tensors)

    def missing(part: TextPart, prompt: str) -> bool:
        return hash_text(prompt) not in caches[part]

    try:
        encode_prompts(base, parts, prompts, store, missing, device, dtype, batch, on_batch)
    finally:
        for cache in caches.values():
            cache.flush()
    return min(len(cache) for cache in caches.values())


def read_conditioning(caches: Mapping[str, TensorCache], prompts: Sequence[str]) -> Conditioning:
    """Read the conditioning of a batch of prompts from the caches.

    Args:
        caches (mapping): cache of each text part, by name.
        prompts (sequence of str): B texts.

    Raises:
        DatasetError: a prompt is not cached.
    """
    entries: dict[str, list[dict[str, Tensor]]] = {}
    for name, cache in caches.items():
        for prompt in prompts:
            if hash_text(prompt) not in cache:
                raise DatasetError(f"{cache.folder}: has no embedding of {prompt!r}; run 'tsdsr data cache' again")
        entries[name] = [cache[hash_text(prompt)] for prompt in prompts]
    return assemble(
        {name: {key: torch.stack([row[key] for row in rows]) for key in rows[0]} for name, rows in entries.items()}
    )


def latent_cache(output: Path, spec: ModelSpec, base: Path, crop: int, dtype: torch.dtype) -> TensorCache:
    """Open the cache of latents. Its keys are hashes of the crops' pixels.

    Raises:
        InvalidInputError: the crop is not a multiple of the edge that the model needs.
        DatasetError: the cache was made with another model, crop or precision.
    """
    if crop % spec.size_multiple:
        raise InvalidInputError(f"a crop of {crop} is not a multiple of {spec.size_multiple}, which {spec.name} needs")
    maker = {
        "model": spec.name,
        "fingerprint": fingerprint_folder(base, ("vae",)),
        "crop": str(crop),
        "dtype": str(dtype),
    }
    return TensorCache(output / "latents", maker)


def cache_latents(
    images: Sequence[Path],
    base: StrPath,
    spec: ModelSpec,
    output: StrPath,
    crop: int,
    device: torch.device | str,
    dtype: torch.dtype,
    batch: int = 4,
    progress: Progress = lambda items, total: iter(items),
) -> int:
    """Encode the centre crop of every image that is not cached yet to its scaled latent (posterior mode).

    Images that cannot be decoded or are smaller than the crop are reported and skipped; too many are an error.

    Args:
        images (sequence of Path): files.
        base (str | PathLike): diffusers folder with the autoencoder.
        spec (ModelSpec): the base model.
        output (str | PathLike): folder of the cache.
        crop (int): edge of the crops in pixels.
        device, dtype: where to encode, and the precision to encode and store in.
        batch (int): images per call.
        progress (callable): wraps the iteration over batches.

    Returns:
        int: number of latents in the cache.

    Raises:
        InvalidInputError: the crop is not a multiple of the edge that the model needs.
        DatasetError: the cache was made with another model, crop or precision, or too many images are unusable.
    """
    base = Path(base)
    cache = latent_cache(Path(output), spec, base, crop, dtype)
    vae = load_part(spec.vae_class, base / "vae", dtype).to(device).eval()
    health = UnreadableFiles(images)
    with cache:
        for chunk in progress(_chunks(images, batch), -(-len(images) // batch)):
            crops = [pixels for path in chunk if (pixels := _centre_crop(path, crop, health)) is not None]
            todo = {key: pixels for pixels in crops if (key := hash_pixels(pixels)) not in cache}
            if not todo:
                continue
            x = torch.stack([to_tensor(p) for p in todo.values()]).to(device)
            with torch.no_grad():
                z = encode_images(vae, x).to(dtype)
            for key, latent in zip(todo, z, strict=True):
                cache.add(key, {"z_hq": latent})
    return len(cache)


def _chunks(items: Sequence[Path], size: int) -> Iterator[Sequence[Path]]:
    for start in range(0, len(items), size):
        yield items[start : start + size]


def _centre_crop(path: Path, crop: int, health: UnreadableFiles) -> np.ndarray | None:
    pixels = health.read(path, crop)
    if pixels is None:
        return None
    height, width = pixels.shape[:2]
    top, left = (height - crop) // 2, (width - crop) // 2
    return np.ascontiguousarray(pixels[top : top + crop, left : left + crop])
