"""Images ↔ scaled latents: the one place where an autoencoder's ``scaling_factor`` is applied.

Every base model uses ``z = scaling_factor * latent``, without a shift: SD3's autoencoder has a ``shift_factor`` too,
but the released student was trained without it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

Noise = Callable[[tuple[int, ...]], np.ndarray]
"""The shape of a batch of latents (B, C, h, w) → standard normal noise of that shape, float32."""


def compute_dtype(module: nn.Module) -> torch.dtype:
    """The dtype of a module's weights; float32 for a module without any, such as mini's autoencoder."""
    first = next(module.parameters(), None)
    return torch.float32 if first is None else first.dtype


def encode_images(vae: Any, x: Tensor, noise: Noise | None = None) -> Tensor:
    """Encode images to scaled latents, ``scaling_factor * (mean + std * noise)``.

    Images are cast to the dtype of the autoencoder's weights; under autocast its layers then choose their own. The
    result is float32 in both cases.

    Args:
        vae (nn.Module): an autoencoder with the interface of ``diffusers.AutoencoderKL``.
        x (Tensor): images (B, 3, H, W) in [0, 1]; H and W are multiples of the model's ``size_multiple``.
        noise (callable | None): gives the noise of a draw from the posterior; None takes the posterior's mode.

    Returns:
        Tensor: (B, C, H/f, W/f), float32, where f is the model's ``vae_scale_factor``.
    """
    posterior = vae.encode((x * 2 - 1).to(compute_dtype(vae))).latent_dist
    latent: Tensor = posterior.mode().float()
    if noise is not None:
        latent = latent + posterior.std.float() * torch.from_numpy(noise(tuple(latent.shape))).to(latent.device)
    scaled: Tensor = latent * vae.config.scaling_factor
    return scaled


def decode_latents(vae: Any, z: Tensor) -> Tensor:
    """Decode scaled latents to images.

    Args:
        vae (nn.Module): see :func:`encode_images`.
        z (Tensor): scaled latents (B, C, h, w).

    Returns:
        Tensor: images (B, 3, h * f, w * f), float32, nominally in [0, 1], not clamped.
    """
    latent = (z / vae.config.scaling_factor).to(compute_dtype(vae))
    x: Tensor = vae.decode(latent, return_dict=False)[0]
    return x.float() / 2 + 0.5
