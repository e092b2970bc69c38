"""The student's fixed prompt as a component of a diffusers pipeline."""

from __future__ import annotations

from dataclasses import fields

import torch
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.modeling_utils import ModelMixin

from tsdsr.errors import InvalidInputError
from tsdsr.models.conditioning import Conditioning


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
