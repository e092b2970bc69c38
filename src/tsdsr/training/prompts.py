"""Conditioning by role: the image's prompt, the student's fixed prompt, the empty prompt."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor

from tsdsr.data.tensor_cache import TensorCache, read_maker
from tsdsr.errors import DatasetError
from tsdsr.models.conditioning import DEFAULT_PROMPT, NULL_PROMPT, Conditioning
from tsdsr.models.zoo import ModelSpec
from tsdsr.training.encoder_cache import read_conditioning, text_cache


class Prompts(Protocol):
    """Conditioning by role, on the CPU, in float32 or as stored."""

    def fixed(self) -> Conditioning:
        """Return the student's ``c_default``, batch 1."""
        ...

    def null(self) -> Conditioning:
        """Return the empty prompt ``c_null``, batch 1."""
        ...

    def of(self, texts: Sequence[str]) -> Conditioning:
        """Return the prompts ``c`` of a batch of images."""
        ...


class LabelPrompts:
    """`mini`'s learned prompts: every image has the prompt "clean photograph"."""

    def fixed(self) -> Conditioning:
        return Conditioning(labels=torch.zeros(1, dtype=torch.int64))

    def null(self) -> Conditioning:
        return Conditioning(labels=torch.ones(1, dtype=torch.int64))

    def of(self, texts: Sequence[str]) -> Conditioning:
        return Conditioning(labels=torch.zeros(len(texts), dtype=torch.int64))


class CachedPrompts:
    """Text embeddings from a cache made by ``tsdsr data cache``, including the fixed and the empty prompt.

    Args:
        folder (Path): folder of the cache.
        spec (ModelSpec): the base model.
        base (Path): the base model's diffusers folder; the cache must have been made with it.

    Raises:
        DatasetError: there is no cache, or it was made with another model.
    """

    def __init__(self, folder: Path, spec: ModelSpec, base: Path) -> None:
        self._caches: dict[str, TensorCache] = {}
        for part in spec.text_parts:
            entries = folder / "text" / part.name
            if entries.is_dir():
                self._caches[part.name] = text_cache(folder, part, spec, base, _stored_dtype(entries))
            elif part.kind != "t5":
                raise DatasetError(f"{entries}: no text embeddings there; make them with 'tsdsr data cache'")
        self._fixed = read_conditioning(self._caches, [DEFAULT_PROMPT])
        self._null = read_conditioning(self._caches, [NULL_PROMPT])

    def fixed(self) -> Conditioning:
        return self._fixed

    def null(self) -> Conditioning:
        return self._null

    def of(self, texts: Sequence[str]) -> Conditioning:
        """Return the prompts of a batch; an image without text gets the fixed prompt."""
        return read_conditioning(self._caches, [text or DEFAULT_PROMPT for text in texts])


def _stored_dtype(folder: Path) -> torch.dtype:
    dtype = getattr(torch, read_maker(folder).get("dtype", "").removeprefix("torch."), None)
    if not isinstance(dtype, torch.dtype):
        raise DatasetError(f"{folder}: does not say its precision; remove the cache and make it again")
    return dtype


def mix(first: Conditioning, second: Conditioning, take_second: Tensor) -> Conditioning:
    """Choose between two conditionings, row by row.

    Args:
        first, second (Conditioning): batch 1 or B each.
        take_second (Tensor): bool, shape (B,).
    """
    batch = len(take_second)
    pairs = zip(first.expand(batch).tensors().items(), second.expand(batch).tensors().values(), strict=True)
    return Conditioning(
        **{
            name: torch.where(take_second.to(a.device).reshape(-1, *(1,) * (a.ndim - 1)), b, a)
            for (name, a), b in pairs
        }
    )


def join(*parts: Conditioning) -> Conditioning:
    """Concatenate conditionings along the batch."""
    names = parts[0].tensors()
    return Conditioning(**{name: torch.cat([part.tensors()[name] for part in parts]) for name in names})
