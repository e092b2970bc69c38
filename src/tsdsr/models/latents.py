"""Images ↔ scaled latents: the one place where an autoencoder's latents are arranged and scaled for the denoiser.

``AutoencoderKL`` (SD3, SD2) and mini's autoencoder: ``z = scaling_factor * latent``, without a shift. SD3's autoencoder
has a ``shift_factor`` too, but the released student was trained without it.

``AutoencoderKLFlux2``: blocks of 2×2 positions become channels, and each channel is standardised by the running
statistics of the autoencoder's batch norm: ``z = (unshuffle(latent) - mean) / sqrt(var + eps)``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

Noise = Callable[[tuple[int, ...]], np.ndarray]
"""The shape of a batch of latents (B, C, h, w) → standard normal noise of that shape, float32."""


def compute_dtype(module: nn.Module) -> torch.dtype:
    """The dtype of a module's weights; float32 for a module without any, such as mini's autoencoder."""
    first = next(module.parameters(), None)
    return torch.float32 if first is None else first.dtype


def scaling_factor(vae: Any) -> float:
    """The factor between :func:`arrange`'s latents and the denoiser's; 1 where a batch norm scales them."""
    return 1.0 if _standardises(vae) else float(vae.config["scaling_factor"])


def patch_size(vae: Any) -> int:
    """Edge of the block of an autoencoder's latent positions that is one position of the denoiser."""
    return int(vae.config["patch_size"][0]) if _standardises(vae) else 1


def arrange(vae: Any, latent: Tensor) -> Tensor:
    """Arrange an autoencoder's latents for the denoiser: everything but the scaling factor.

    Args:
        vae (nn.Module): see :func:`encode_images`.
        latent (Tensor): (B, c, p * h, p * w), where p is :func:`patch_size`.

    Returns:
        Tensor: (B, c * p * p, h, w).
    """
    if not _standardises(vae):
        return latent
    mean, std = _statistics(vae, latent)
    return (F.pixel_unshuffle(latent, patch_size(vae)) - mean) / std


def arrange_back(vae: Any, latent: Tensor) -> Tensor:
    """Undo :func:`arrange`."""
    if not _standardises(vae):
        return latent
    mean, std = _statistics(vae, latent)
    return F.pixel_shuffle(latent * std + mean, patch_size(vae))


def _standardises(vae: Any) -> bool:
    return "batch_norm_eps" in vae.config


def _statistics(vae: Any, like: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of each channel, (1, C, 1, 1), on the device of ``like``."""
    mean, var = (x.to(like.device, like.dtype).reshape(1, -1, 1, 1) for x in (vae.bn.running_mean, vae.bn.running_var))
    return mean, (var + vae.config["batch_norm_eps"]).sqrt()


def encode_images(vae: Any, x: Tensor, noise: Noise | None = None) -> Tensor:
    """Encode images to scaled latents, for ``AutoencoderKL`` ``scaling_factor * (mean + std * noise)``.

    Images are cast to the dtype of the autoencoder's weights; under autocast its layers then choose their own. The
    result is float32 in both cases.

    Args:
        vae (nn.Module): ``diffusers.AutoencoderKL``, ``diffusers.AutoencoderKLFlux2``, or one with their interface.
        x (Tensor): images (B, 3, H, W) in [0, 1]; H and W are multiples of the model's ``size_multiple``.
        noise (callable | None): gives the noise of a draw from the posterior, in the shape of the result; None takes
            the posterior's mode.

    Returns:
        Tensor: (B, C, H/f, W/f), float32, where f is the model's ``vae_scale_factor``.
    """
    posterior = vae.encode((x * 2 - 1).to(compute_dtype(vae))).latent_dist
    latent: Tensor = posterior.mode().float()
    if noise is not None:
        patch = patch_size(vae)
        drawn = torch.from_numpy(noise(tuple(F.pixel_unshuffle(latent, patch).shape))).to(latent.device)
        latent = latent + posterior.std.float() * F.pixel_shuffle(drawn, patch)
    return arrange(vae, latent) * scaling_factor(vae)


def decode_latents(vae: Any, z: Tensor) -> Tensor:
    """Decode scaled latents to images.

    Args:
        vae (nn.Module): see :func:`encode_images`.
        z (Tensor): scaled latents (B, C, h, w).

    Returns:
        Tensor: images (B, 3, h * f, w * f), float32, nominally in [0, 1], not clamped.
    """
    latent = arrange_back(vae, z / scaling_factor(vae)).to(compute_dtype(vae))
    x: Tensor = vae.decode(latent, return_dict=False)[0]
    return x.float() / 2 + 0.5
