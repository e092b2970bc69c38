"""One protocol over all denoisers, and the one step.

A :class:`Denoiser` is any callable ``(z_t, t, conditioning) → native prediction``. The networks of diffusers have three
different signatures; :func:`as_denoiser` hides them. :func:`restore` is the only place where the student's one step is
taken: pipeline, trainer and export all call it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Protocol

import torch
from diffusers.models.transformers.transformer_sd3 import SD3Transformer2DModel
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from torch import Tensor, nn

from tsdsr.diffusion.process import NoiseProcess
from tsdsr.errors import ModelError
from tsdsr.models.conditioning import Conditioning
from tsdsr.models.folded import FoldedNetwork
from tsdsr.models.mini import MiniUNet


class Denoiser(Protocol):
    """Predicts, in its base model's native space (velocity or noise), from a noisy latent."""

    def __call__(self, z_t: Tensor, t: Tensor, conditioning: Conditioning) -> Tensor:
        """
        Args:
            z_t (Tensor): noisy or low-quality latent, shape (B, C, h, w).
            t (Tensor): time of each sample, shape (B,).
            conditioning (Conditioning): batch 1 or B.

        Returns:
            Tensor: native prediction, shape (B, C, h, w).
        """
        ...


class NetworkDenoiser(ABC):
    """:class:`Denoiser` over a network: latents keep their dtype, the network computes in its own.

    Only the prediction passes through the network's precision, so that a half-precision student does not round the
    latent it is subtracted from.

    Args:
        network (nn.Module): a network the subclass knows how to call.
    """

    def __init__(self, network: nn.Module) -> None:
        self.network = network

    def __call__(self, z_t: Tensor, t: Tensor, conditioning: Conditioning) -> Tensor:
        dtype = next(self.network.parameters()).dtype
        cond = conditioning.expand(len(z_t)).to(z_t.device, dtype)
        return self.predict(z_t.to(dtype), t, cond).to(z_t.dtype)

    @abstractmethod
    def predict(self, z_t: Tensor, t: Tensor, cond: Conditioning) -> Tensor:
        """Call the network; all arguments have its dtype (times stay as they are) and batch size."""


class MMDiTDenoiser(NetworkDenoiser):
    """For ``diffusers.SD3Transformer2DModel`` (SD3, SD3.5)."""

    def predict(self, z_t: Tensor, t: Tensor, cond: Conditioning) -> Tensor:
        prediction: Tensor = self.network(
            hidden_states=z_t,
            timestep=t,
            encoder_hidden_states=Conditioning.require(cond.prompt_embeds, "prompt_embeds"),
            pooled_projections=Conditioning.require(cond.pooled_prompt_embeds, "pooled_prompt_embeds"),
            return_dict=False,
        )[0]
        return prediction


class UNetDenoiser(NetworkDenoiser):
    """For ``diffusers.UNet2DConditionModel`` (SD2, SD2.1)."""

    def predict(self, z_t: Tensor, t: Tensor, cond: Conditioning) -> Tensor:
        prompt = Conditioning.require(cond.prompt_embeds, "prompt_embeds")
        prediction: Tensor = self.network(z_t, t, encoder_hidden_states=prompt, return_dict=False)[0]
        return prediction


class MiniDenoiser(NetworkDenoiser):
    """For :class:`tsdsr.models.mini.MiniUNet`."""

    def predict(self, z_t: Tensor, t: Tensor, cond: Conditioning) -> Tensor:
        prediction: Tensor = self.network(z_t, t, Conditioning.require(cond.labels, "labels"))
        return prediction


class FoldedDenoiser(NetworkDenoiser):
    """For :class:`tsdsr.models.folded.FoldedNetwork`, which holds its time and prompt and refuses others."""

    def __call__(self, z_t: Tensor, t: Tensor, conditioning: Conditioning) -> Tensor:
        assert isinstance(self.network, FoldedNetwork)
        self.network.require(t, conditioning)
        return self.predict(z_t.to(next(self.network.parameters()).dtype), t, conditioning).to(z_t.dtype)

    def predict(self, z_t: Tensor, t: Tensor, cond: Conditioning) -> Tensor:
        prediction: Tensor = self.network(z_t)
        return prediction


_ADAPTERS: dict[type[nn.Module], type[NetworkDenoiser]] = {
    SD3Transformer2DModel: MMDiTDenoiser,
    UNet2DConditionModel: UNetDenoiser,
    MiniUNet: MiniDenoiser,
    FoldedNetwork: FoldedDenoiser,
}


def as_denoiser(network: nn.Module) -> Denoiser:
    """Wrap a supported network.

    Raises:
        ModelError: no adapter knows this class.
    """
    for network_class, adapter in _ADAPTERS.items():
        if isinstance(network, network_class):
            return adapter(network)
    known = ", ".join(c.__name__ for c in _ADAPTERS)
    raise ModelError(f"no denoiser adapter for {type(network).__name__}; supported networks: {known}")


def restore(denoiser: Denoiser, process: NoiseProcess, z_lq: Tensor, t: float, conditioning: Conditioning) -> Tensor:
    """The one step: the clean latent implied by the prediction at the fixed time ``t``, with no noise added.

    ``z_hat = to_x0(z_lq, network(z_lq; T, c), T)``: for flow matching at T = 1000, ``z_hat = z_lq - v``.

    Args:
        denoiser (Denoiser): the student.
        process (NoiseProcess): its noising process.
        z_lq (Tensor): low-quality latent, shape (B, C, h, w).
        t (float): the student's fixed time ``T``.
        conditioning (Conditioning): the student's fixed prompt, batch 1 or B.

    Returns:
        Tensor: ``z_hat``, shape of ``z_lq``.
    """
    times = torch.full((len(z_lq),), float(t), device=z_lq.device)
    return process.to_x0(z_lq, denoiser(z_lq, times, conditioning), t)
