"""Prompt conditioning of a denoiser: text embeddings for the large models, a learned prompt for `mini`."""

from __future__ import annotations

from dataclasses import dataclass, fields

import torch
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.modeling_utils import ModelMixin
from torch import Tensor

from tsdsr.errors import InvalidInputError

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
        prompt_embeds (Tensor | None): token embeddings, (B, 333, 4096) for SD3, (B, 77, 1024) for SD2.
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


class FixedPrompt(ModelMixin, ConfigMixin):
    """The student's fixed prompt, stored with the pipeline as safetensors so that no text encoder is needed.

    Args:
        shapes (dict): :class:`Conditioning` field → shape of its tensor at batch size 1.
    """

    @register_to_config
    def __init__(self, shapes: dict[str, list[int]]) -> None:
        super().__init__()
        known = {f.name for f in fields(Conditioning)}
        if not shapes or not set(shapes) <= known:
            raise InvalidInputError(f"shapes must name fields among {sorted(known)}, got {sorted(shapes)}")
        for name, shape in shapes.items():
            dtype = torch.int64 if name == "labels" else torch.float32
            self.register_buffer(name, torch.zeros(*shape, dtype=dtype))

    @classmethod
    def from_conditioning(cls, conditioning: Conditioning) -> FixedPrompt:
        """Create the component from a conditioning of batch size 1."""
        tensors = conditioning.tensors()
        if conditioning.batch_size != 1:
            raise InvalidInputError(f"a fixed prompt has batch 1, got {conditioning.batch_size}")
        stored: FixedPrompt = cls(shapes={name: list(tensor.shape) for name, tensor in tensors.items()})
        for name, tensor in tensors.items():
            stored.register_buffer(name, tensor.detach().clone())
        return stored

    def conditioning(self) -> Conditioning:
        """Return the stored prompt at batch size 1."""
        return Conditioning(**{name: self.get_buffer(name) for name in self.config["shapes"]})
