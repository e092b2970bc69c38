"""The denoiser protocol and the student's single step.

A :class:`Denoiser` is any callable ``(z_t, t, conditioning) → native prediction``. :func:`as_denoiser` adapts the
networks, whose call signatures differ, to it. :func:`restore` is the only implementation of the student's step:
pipeline, trainer and export all call it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from tsdsr.diffusion.process import NoiseProcess
from tsdsr.errors import ModelError
from tsdsr.models.conditioning import Conditioning
from tsdsr.models.flux2_tokens import from_tokens, image_positions, text_positions, to_tokens


class Denoiser(Protocol):
    """A callable that predicts velocity or noise, the base model's native space, from a noisy latent."""

    def __call__(self, z_t: Tensor, t: Tensor, conditioning: Conditioning) -> Tensor:
        """
        Args:
            z_t (Tensor): noisy or low-quality latent, shape (B, C, h, w).
            t (Tensor): time of each sample, shape (B,).
            conditioning (Conditioning): prompt, batch size 1 or B.

        Returns:
            Tensor: native prediction, shape (B, C, h, w).
        """
        ...


class NetworkDenoiser(ABC):
    """A :class:`Denoiser` that wraps a network and runs it in the network's own dtype.

    The prediction is cast back to the dtype of the latent. A half-precision student thus rounds its prediction, but
    not the latent that the prediction is subtracted from.

    Args:
        network (nn.Module): a network of the class that the subclass supports.
    """

    def __init__(self, network: nn.Module) -> None:
        self.network = network

    def __call__(self, z_t: Tensor, t: Tensor, conditioning: Conditioning) -> Tensor:
        dtype = next(self.network.parameters()).dtype
        cond = conditioning.expand(len(z_t)).to(z_t.device, dtype)
        return self.predict(z_t.to(dtype), t, cond).to(z_t.dtype)

    @abstractmethod
    def predict(self, z_t: Tensor, t: Tensor, cond: Conditioning) -> Tensor:
        """Call the network; arguments have its dtype, except ``t``, and the same batch size."""


class MMDiTDenoiser(NetworkDenoiser):
    """Adapter for ``diffusers.SD3Transformer2DModel`` (SD3, SD3.5)."""

    def predict(self, z_t: Tensor, t: Tensor, cond: Conditioning) -> Tensor:
        prediction: Tensor = self.network(
            hidden_states=z_t,
            timestep=t,
            encoder_hidden_states=Conditioning.require(cond.prompt_embeds, "prompt_embeds"),
            pooled_projections=Conditioning.require(cond.pooled_prompt_embeds, "pooled_prompt_embeds"),
            return_dict=False,
        )[0]
        return prediction


class Flux2Denoiser(NetworkDenoiser):
    """Adapter for ``diffusers.Flux2Transformer2DModel`` without guidance embedding (FLUX.2 klein).

    The network takes ``t / 1000`` and rounds it to its own dtype: in bfloat16 to 8 bits, as in diffusers' pipeline.
    """

    def predict(self, z_t: Tensor, t: Tensor, cond: Conditioning) -> Tensor:
        prompt = Conditioning.require(cond.prompt_embeds, "prompt_embeds")
        height, width = z_t.shape[-2:]
        tokens: Tensor = self.network(
            hidden_states=to_tokens(z_t),
            timestep=t / 1000,
            encoder_hidden_states=prompt,
            img_ids=image_positions(height, width, z_t.device),
            txt_ids=text_positions(prompt.shape[1], z_t.device),
            return_dict=False,
        )[0]
        return from_tokens(tokens, height, width)


class UNetDenoiser(NetworkDenoiser):
    """Adapter for ``diffusers.UNet2DConditionModel`` (SD2, SD2.1)."""

    def predict(self, z_t: Tensor, t: Tensor, cond: Conditioning) -> Tensor:
        prompt = Conditioning.require(cond.prompt_embeds, "prompt_embeds")
        prediction: Tensor = self.network(z_t, t, encoder_hidden_states=prompt, return_dict=False)[0]
        return prediction


class MiniDenoiser(NetworkDenoiser):
    """Adapter for :class:`tsdsr.models.mini_network.MiniNetwork`."""

    def predict(self, z_t: Tensor, t: Tensor, cond: Conditioning) -> Tensor:
        prediction: Tensor = self.network(z_t, t, Conditioning.require(cond.labels, "labels"))
        return prediction


class FoldedDenoiser(NetworkDenoiser):
    """Adapter for :class:`tsdsr.models.folded_parts.FoldedNetwork`, which accepts only its own time and prompt."""

    def __call__(self, z_t: Tensor, t: Tensor, conditioning: Conditioning) -> Tensor:
        self.require(t, conditioning)
        return self.unchecked(z_t, t, conditioning)

    def require(self, t: Tensor, conditioning: Conditioning) -> None:
        """Raise InvalidInputError unless time and prompt are the network's own."""
        folded: Any = self.network
        folded.require(t, conditioning)

    def unchecked(self, z_t: Tensor, t: Tensor, conditioning: Conditioning) -> Tensor:
        """Predict without the check, which a tracer cannot follow because it depends on values."""
        return self.predict(z_t.to(next(self.network.parameters()).dtype), t, conditioning).to(z_t.dtype)

    def predict(self, z_t: Tensor, t: Tensor, cond: Conditioning) -> Tensor:
        prediction: Tensor = self.network(z_t)
        return prediction


_ADAPTERS: dict[str, type[NetworkDenoiser]] = {
    "SD3Transformer2DModel": MMDiTDenoiser,
    "Flux2Transformer2DModel": Flux2Denoiser,
    "UNet2DConditionModel": UNetDenoiser,
    "MiniNetwork": MiniDenoiser,
    "FoldedNetwork": FoldedDenoiser,
}
"""Name of a network's class, or of a base class → adapter. Names, because importing all classes takes seconds."""


def as_denoiser(network: nn.Module) -> Denoiser:
    """Wrap a supported network as a :class:`Denoiser`.

    Args:
        network (nn.Module): an instance of one of the supported network classes.

    Raises:
        ModelError: the network class is not supported.
    """
    for base in type(network).__mro__:
        if base.__name__ in _ADAPTERS:
            return _ADAPTERS[base.__name__](network)
    known = ", ".join(_ADAPTERS)
    raise ModelError(f"no denoiser adapter for {type(network).__name__}; supported networks: {known}")


def restore(denoiser: Denoiser, process: NoiseProcess, z_lq: Tensor, t: float, conditioning: Conditioning) -> Tensor:
    """Restore a latent in one step: predict at the fixed time ``t``, without added noise, and convert to ``x0``.

    ``z_hat = to_x0(z_lq, network(z_lq; T, c), T)``. For flow matching at T = 1000 this is ``z_hat = z_lq - v``.

    Args:
        denoiser (Denoiser): the student.
        process (NoiseProcess): its noising process.
        z_lq (Tensor): low-quality latent, shape (B, C, h, w).
        t (float): the student's fixed time ``T``.
        conditioning (Conditioning): the student's fixed prompt, batch size 1 or B.

    Returns:
        Tensor: ``z_hat``, shape of ``z_lq``.
    """
    times = torch.full((len(z_lq),), float(t), device=z_lq.device)
    return process.to_x0(z_lq, denoiser(z_lq, times, conditioning), t)
