"""Outputs of the frozen text encoders in the tensor cache."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

from tsdsr.data.tensor_cache import TensorCache
from tsdsr.errors import DatasetError, InvalidInputError, ModelNotFoundError
from tsdsr.files import StrPath
from tsdsr.hashing import fingerprint_folder, hash_text
from tsdsr.models.conditioning import Conditioning
from tsdsr.models.text import assemble, encode_prompts
from tsdsr.models.text_parts import TextPart
from tsdsr.models.zoo import ModelSpec


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
        ModelNotFoundError, WeightsError: a text encoder is missing, incomplete, or of another kind.
        DatasetError: the cache was made with another model or precision.
    """
    base = Path(base)
    output = Path(output)
    parts = [part for part in spec.text_parts if t5 or part.kind != "t5"]
    if not parts:
        raise InvalidInputError(f"{spec.name!r} takes no text")
    for folder in (folder for part in parts for folder in (part.encoder, part.tokenizer)):
        if not (base / folder).is_dir():
            raise ModelNotFoundError(
                f"{base}: has no {folder}, which {spec.name} needs; give {spec.hub_id}, or another --model"
            )
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
