"""A first-order degradation: blur, resize, noise, JPEG. Turns a sharp crop into what a camera or a website left of it.

The order is the classical one (blur → downscale → noise → compression); every parameter is drawn afresh for each sample
from a :class:`SimpleDegradation`, a frozen set of ranges.
"""

from __future__ import annotations

import io
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from tsdsr.errors import ConfigError, InvalidInputError


@dataclass(frozen=True)
class SimpleDegradation:
    """Ranges of a blur–resize–noise–JPEG degradation; call it on one image.

    Attributes:
        blur_prob (float): probability of a blur before the resize.
        blur_sigma (tuple): standard deviation of the Gaussian along each axis, in pixels of the sharp image.
        isotropic_prob (float): probability that both axes share one sigma.
        resize_modes (tuple): antialiased filters to choose from: "area", "bilinear", "bicubic".
        noise_prob (float): probability of additive Gaussian noise.
        noise_sigma (tuple): its standard deviation, in units of 1/255.
        grey_noise_prob (float): probability that the noise is the same in all channels.
        jpeg_prob (float): probability of JPEG compression.
        jpeg_quality (tuple): its quality, inclusive.
    """

    blur_prob: float = 0.9
    blur_sigma: tuple[float, float] = (0.2, 3.0)
    isotropic_prob: float = 0.6
    resize_modes: tuple[str, ...] = ("area", "bilinear", "bicubic")
    noise_prob: float = 0.6
    noise_sigma: tuple[float, float] = (0.5, 12.0)
    grey_noise_prob: float = 0.4
    jpeg_prob: float = 0.6
    jpeg_quality: tuple[int, int] = (50, 95)

    def __post_init__(self) -> None:
        for name in ("blur_sigma", "noise_sigma", "jpeg_quality"):
            low, high = getattr(self, name)
            if not 0 < low <= high:
                raise ConfigError(f"{name} must be a range 0 < low <= high, got ({low}, {high})")
        if not 1 <= self.jpeg_quality[1] <= 100:
            raise ConfigError(f"jpeg_quality must stay within 1 and 100, got {self.jpeg_quality}")
        if unknown := set(self.resize_modes) - {"area", "bilinear", "bicubic"}:
            raise ConfigError(f"unknown resize modes {sorted(unknown)}")

    def __call__(self, hq: Tensor, size: tuple[int, int], rng: np.random.Generator) -> Tensor:
        """Degrade one image.

        Args:
            hq (Tensor): sharp image, shape (3, H, W), RGB in [0, 1].
            size (tuple): height and width of the result, at most those of ``hq``.
            rng (numpy Generator): the only source of randomness.

        Returns:
            Tensor: shape (3, *size), values on the 8-bit grid of [0, 1].

        Raises:
            InvalidInputError: ``size`` is larger than ``hq``.
        """
        if size[0] > hq.shape[-2] or size[1] > hq.shape[-1]:
            raise InvalidInputError(f"size {size} exceeds the image's {tuple(hq.shape[-2:])}")
        x = hq[None]
        if rng.random() < self.blur_prob:
            sigmas = rng.uniform(*self.blur_sigma, 2)
            if rng.random() < self.isotropic_prob:
                sigmas[1] = sigmas[0]
            x = blur(x, gaussian_kernel(sigmas[0], sigmas[1], angle=rng.uniform(0, np.pi)))
        x = downscale(x, size, mode=self.resize_modes[rng.integers(len(self.resize_modes))])
        if rng.random() < self.noise_prob:
            channels = 1 if rng.random() < self.grey_noise_prob else 3
            noise = rng.standard_normal((1, channels, *size), dtype=np.float32)
            x = x + torch.from_numpy(noise) * (rng.uniform(*self.noise_sigma) / 255)
        quality = int(rng.integers(self.jpeg_quality[0], self.jpeg_quality[1] + 1))
        return jpeg(x[0], quality) if rng.random() < self.jpeg_prob else quantise(x[0])


def gaussian_kernel(sigma_x: float, sigma_y: float, angle: float = 0.0) -> Tensor:
    """A normalised anisotropic Gaussian, shape (k, k) with k odd and at least three sigmas to each side.

    Args:
        sigma_x (float): standard deviation along the first principal axis, in pixels, > 0.
        sigma_y (float): along the second.
        angle (float): rotation of the first axis, in radians.
    """
    radius = max(1, int(np.ceil(3 * max(sigma_x, sigma_y))))
    axis = np.arange(-radius, radius + 1, dtype=np.float64)
    y, x = np.meshgrid(axis, axis, indexing="ij")
    u = np.cos(angle) * x + np.sin(angle) * y
    v = -np.sin(angle) * x + np.cos(angle) * y
    kernel = np.exp(-0.5 * ((u / sigma_x) ** 2 + (v / sigma_y) ** 2))
    return torch.from_numpy((kernel / kernel.sum()).astype(np.float32))


def blur(x: Tensor, kernel: Tensor) -> Tensor:
    """Filter every channel of x (B, C, H, W) with one kernel (k, k); borders are reflected where the image allows."""
    pad = kernel.shape[-1] // 2
    mode = "reflect" if pad < min(x.shape[-2:]) else "replicate"
    padded = F.pad(x, (pad,) * 4, mode=mode)
    channels = x.shape[1]
    weight = kernel.to(x.dtype).expand(channels, 1, *kernel.shape)
    return F.conv2d(padded, weight, groups=channels)


def downscale(x: Tensor, size: tuple[int, int], mode: str) -> Tensor:
    """Shrink x (B, C, H, W) to ``size`` = (h, w) with an antialiased "area", "bilinear" or "bicubic" filter."""
    if mode == "area":
        return F.interpolate(x, size=size, mode="area")
    return F.interpolate(x, size=size, mode=mode, align_corners=False, antialias=True)


def quantise(x: Tensor) -> Tensor:
    """Clamp x to [0, 1] and round it to 8 bits."""
    return x.clamp(0, 1).mul(255).round() / 255


def jpeg(x: Tensor, quality: int) -> Tensor:
    """Compress and decompress one image (3, H, W) in [0, 1] as a 4:2:0 JPEG of the given quality (1 to 100)."""
    pixels = quantise(x).mul(255).byte().permute(1, 2, 0).numpy()
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="JPEG", quality=quality)
    decoded = np.asarray(Image.open(buffer).convert("RGB"))
    return torch.from_numpy(decoded.copy()).permute(2, 0, 1).float() / 255
