"""First-order degradation: blur, resize, noise, JPEG. It is mild and fast; the first `mini` was trained with it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from tsdsr.data.kernels import smooth_kernels
from tsdsr.data.operators import RESIZE_MODES, ResizeMode, filter2d, jpeg_pillow, quantise, resize
from tsdsr.errors import ConfigError, InvalidInputError
from tsdsr.field_checks import Probability, check_fields

_SHARPEN_SIGMA = 0.8


@dataclass(frozen=True)
class FirstOrderDegradation:
    """Degradation of one image by blur, resize, noise and JPEG.

    Attributes:
        blur_prob (float): probability of a blur before the resize.
        blur_sigma (tuple): range of the Gaussian's standard deviation along each axis, in pixels of the sharp image.
        isotropic_prob (float): probability that both axes share one sigma.
        resize_modes (tuple): antialiased filters to choose from: "area", "bilinear", "bicubic".
        noise_prob (float): probability of additive Gaussian noise.
        noise_sigma (tuple): range of the standard deviation of the noise, in units of 1/255.
        grey_noise_prob (float): probability that the noise is the same in all channels.
        sharpen_prob (float): probability of unsharp masking after the noise, as cameras do.
        sharpen_amount (tuple): range of the unsharp-masking weight, for a Gaussian with a sigma of 0.8 pixels of the
            small image.
        jpeg_prob (float): probability of JPEG compression.
        jpeg_quality (tuple): range of the JPEG quality, inclusive.
    """

    blur_prob: Probability = 0.9
    blur_sigma: tuple[float, float] = (0.2, 3.0)
    isotropic_prob: Probability = 0.6
    resize_modes: tuple[ResizeMode, ...] = RESIZE_MODES
    noise_prob: Probability = 0.6
    noise_sigma: tuple[float, float] = (0.5, 12.0)
    grey_noise_prob: Probability = 0.4
    sharpen_prob: Probability = 0.0
    sharpen_amount: tuple[float, float] = (0.1, 0.8)
    jpeg_prob: Probability = 0.6
    jpeg_quality: tuple[int, int] = (50, 95)

    def __post_init__(self) -> None:
        check_fields(self)
        check_ranges(self, "blur_sigma", "noise_sigma", "sharpen_amount", "jpeg_quality")
        if not self.resize_modes:
            raise ConfigError(f"resize_modes must name at least one of {', '.join(RESIZE_MODES)}")

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
        check_size(hq, size)
        x = hq[None]
        if rng.random() < self.blur_prob:
            x = filter2d(x, gaussian_kernel(*draw_ellipse(self.blur_sigma, self.isotropic_prob, rng))[None])
        x = resize(x, size, self.resize_modes[rng.integers(len(self.resize_modes))], antialias=True)
        if rng.random() < self.noise_prob:
            channels = 1 if rng.random() < self.grey_noise_prob else 3
            noise = rng.standard_normal((1, channels, *size), dtype=np.float32)
            x = x + torch.from_numpy(noise) * (rng.uniform(*self.noise_sigma) / 255)
        if self.sharpen_prob and rng.random() < self.sharpen_prob:
            x = sharpened(x, rng.uniform(*self.sharpen_amount))
        return jpeg_roundtrip(x[0], self.jpeg_quality, self.jpeg_prob, rng)


def check_ranges(settings: object, *names: str) -> None:
    """Check the named ranges of a degradation.

    Raises:
        ConfigError: A range does not satisfy ``0 < low <= high``, or ``jpeg_quality`` exceeds 100.
    """
    for name in names:
        low, high = getattr(settings, name)
        if not 0 < low <= high or (name == "jpeg_quality" and high > 100):
            limit = " <= 100" if name == "jpeg_quality" else ""
            raise ConfigError(f"{name} must be a range 0 < low <= high{limit}, got ({low}, {high})")


def check_size(hq: Tensor, size: tuple[int, int]) -> None:
    """Check that the target size (height, width) does not exceed the image (C, H, W).

    Raises:
        InvalidInputError: ``size`` exceeds the size of the image.
    """
    if size[0] > hq.shape[-2] or size[1] > hq.shape[-1]:
        raise InvalidInputError(f"size {size} exceeds the image's {tuple(hq.shape[-2:])}")


def draw_ellipse(
    sigma: tuple[float, float], isotropic_prob: float, rng: np.random.Generator
) -> tuple[float, float, float]:
    """Draw the standard deviations along both axes and the angle of the first axis in radians.

    With probability ``isotropic_prob`` both standard deviations are equal.
    """
    sigma_x, sigma_y = rng.uniform(*sigma, 2)
    if rng.random() < isotropic_prob:
        sigma_y = sigma_x
    return sigma_x, sigma_y, rng.uniform(0, np.pi)


def jpeg_roundtrip(x: Tensor, quality: tuple[int, int], jpeg_prob: float, rng: np.random.Generator) -> Tensor:
    """Compress an image (3, H, W) with JPEG of random quality with probability ``jpeg_prob``, else round to 8 bits."""
    drawn = int(rng.integers(quality[0], quality[1] + 1))
    return jpeg_pillow(x, drawn) if rng.random() < jpeg_prob else quantise(x)


def sharpened(x: Tensor, amount: float) -> Tensor:
    """Unsharp-mask an image (1, C, H, W) with a Gaussian with a sigma of 0.8 pixels and weight ``amount``."""
    return x + amount * (x - filter2d(x, gaussian_kernel(_SHARPEN_SIGMA, _SHARPEN_SIGMA)[None]))


def gaussian_kernel(sigma_x: float, sigma_y: float, angle: float = 0.0) -> Tensor:
    """Create a normalised anisotropic Gaussian (k, k), k odd, that extends at least three sigmas to each side.

    Args:
        sigma_x (float): standard deviation along the first principal axis, in pixels, > 0.
        sigma_y (float): standard deviation along the second principal axis.
        angle (float): rotation of the first axis, in radians.
    """
    size = 2 * max(1, int(np.ceil(3 * max(sigma_x, sigma_y)))) + 1
    return smooth_kernels(
        ["gaussian"],
        torch.tensor([[sigma_x, sigma_y]]),
        torch.tensor([angle]),
        torch.ones(1),
        torch.tensor([size]),
        max_size=size,
    )[0]
