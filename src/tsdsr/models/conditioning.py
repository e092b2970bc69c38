"""Prompt conditioning of a denoiser: text embeddings for the large models, a learned prompt for `mini`."""

from __future__ import annotations

from dataclasses import dataclass, fields

import torch
from torch import Tensor

from tsdsr.errors import InvalidInputError
from tsdsr.models.zoo import ModelSpec

DEFAULT_PROMPT = (
    "Cinematic, High Contrast, highly detailed, taken using a Canon EOS R camera, hyper detailed photo - realistic "
    "maximum detail, 32k, Color Grading, ultra HD, extrememeticulous detailing, skin pore detailing, hyper sharpness, "
    "perfect without deformations."
)
"""The fixed prompt of the released student, copied with its missing space ("extrememeticulous")."""

NULL_PROMPT = ""
"""The empty prompt, for classifier-free guidance."""


@dataclass(frozen=True)
class Conditioning:
    """Prompt tensors of one batch; the base model determines which fields are set.

    Attributes:
        prompt_embeds (Tensor | None): token embeddings, (B, 333, 4096) for SD3, (B, 512, 7680) for FLUX.2
            klein, (B, 77, 1024) for SD2.
        pooled_prompt_embeds (Tensor | None): pooled embedding, (B, 2048) for SD3.
        labels (Tensor | None): index of a learned prompt, int64 (B,), for `mini`.
    """

    prompt_embeds: Tensor | None = None
    pooled_prompt_embeds: Tensor | None = None
    labels: Tensor | None = None

    def __post_init__(self) -> None:
        sizes = {len(tensor) for tensor in self.tensors().values()}
        if len(sizes) != 1:
            raise InvalidInputError(f"conditioning needs tensors of one batch size, got {sorted(sizes) or 'none'}")

    def tensors(self) -> dict[str, Tensor]:
        """Return the fields that are set, by name."""
        return {f.name: value for f in fields(self) if (value := getattr(self, f.name)) is not None}

    @property
    def batch_size(self) -> int:
        return len(next(iter(self.tensors().values())))

    def expand(self, batch: int) -> Conditioning:
        """Repeat the prompt for ``batch`` samples, as a view.

        Raises:
            InvalidInputError: the batch size is neither 1 nor ``batch``.
        """
        if self.batch_size == batch:
            return self
        if self.batch_size != 1:
            raise InvalidInputError(f"cannot expand conditioning of batch {self.batch_size} to {batch}")
        return Conditioning(**{k: v.expand(batch, *v.shape[1:]) for k, v in self.tensors().items()})

    def to(self, device: torch.device | str, dtype: torch.dtype) -> Conditioning:
        """Move to a device and cast floating-point tensors to ``dtype``; labels stay integers."""
        return Conditioning(
            **{k: v.to(device, dtype if v.is_floating_point() else v.dtype) for k, v in self.tensors().items()}
        )

    @staticmethod
    def require(tensor: Tensor | None, name: str) -> Tensor:
        """Return the tensor, or raise InvalidInputError naming the missing field."""
        if tensor is None:
            raise InvalidInputError(f"this base model needs {name} in its conditioning")
        return tensor


def default_conditioning(spec: ModelSpec) -> Conditioning:
    """Return `mini`'s "clean photograph" prompt; for other models, zeros of the right shape. Batch size 1."""
    return Conditioning(
        **{
            name: torch.zeros(1, *shape, dtype=torch.int64 if name == "labels" else torch.float32)
            for name, shape in spec.prompt_shapes.items()
        }
    )
