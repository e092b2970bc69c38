"""Camera degradation: lens blur in linear light, sensor with noise, demosaicing, denoising, sharpening and JPEG."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from tsdsr.data.first_order import check_ranges, check_size, draw_ellipse, gaussian_kernel, jpeg_roundtrip, sharpened
from tsdsr.data.kernels import smooth_kernels
from tsdsr.data.operators import filter2d, luminance, resize
from tsdsr.field_checks import Probability, check_fields

_BILINEAR = (
    [[0, 0, 0, 0, 0], [0, 0, 2, 0, 0], [0, 2, 0, 2, 0], [0, 0, 2, 0, 0], [0, 0, 0, 0, 0]],
    [[0, 0, 0, 0, 0], [0, 0, 0, 0, 0], [0, 4, 0, 4, 0], [0, 0, 0, 0, 0], [0, 0, 0, 0, 0]],
    [[0, 0, 0, 0, 0], [0, 2, 0, 2, 0], [0, 0, 0, 0, 0], [0, 2, 0, 2, 0], [0, 0, 0, 0, 0]],
)
_GRADIENT = (
    [[0, 0, -1, 0, 0], [0, 0, 2, 0, 0], [-1, 2, 4, 2, -1], [0, 0, 2, 0, 0], [0, 0, -1, 0, 0]],
    [[0, 0, 0.5, 0, 0], [0, -1, 0, -1, 0], [-1, 4, 5, 4, -1], [0, -1, 0, -1, 0], [0, 0, 0.5, 0, 0]],
    [[0, 0, -1.5, 0, 0], [0, 2, 0, 2, 0], [-1.5, 0, 6, 0, -1.5], [0, 2, 0, 2, 0], [0, 0, -1.5, 0, 0]],
)
"""Demosaicing filters, times eight: green at red and blue sites, a colour between two sites of a row, a colour between
four diagonal sites. Bilinear averages, and the gradient-corrected filters of Malvar, He and Cutler (2004)."""


@dataclass(frozen=True)
class CameraDegradation:
    """Degradation of one image by a simulated camera.

    Attributes:
        blur_sigma (tuple): range of the standard deviation of the lens's point spread function along each axis, in
            pixels of the sharp image.
        isotropic_prob (float): probability that both axes share one sigma.
        defocus_prob (float): probability of a flat-topped (out-of-focus) instead of a Gaussian point spread function.
        photons (tuple): range of the photon count of a white pixel, sampled log-uniformly; fewer photons mean more
            noise.
        read_noise (tuple): range of the standard deviation of the read noise, relative to white.
        gradient_prob (float): probability of gradient-corrected instead of bilinear demosaicing.
        smear_prob (float): probability of denoising that smears fine detail, as small cameras do, after demosaicing.
        smear_contrast (tuple): range of the contrast below which it smears, a standard deviation in [0, 1].
        sharpen_prob (float): probability of unsharp masking after these.
        sharpen_amount (tuple): see :class:`~tsdsr.data.first_order.FirstOrderDegradation`.
        jpeg_prob (float): probability of JPEG compression.
        jpeg_quality (tuple): range of the JPEG quality, inclusive.
    """

    blur_sigma: tuple[float, float] = (0.6, 3.0)
    isotropic_prob: Probability = 0.7
    defocus_prob: Probability = 0.3
    photons: tuple[float, float] = (1500.0, 60000.0)
    read_noise: tuple[float, float] = (0.0002, 0.002)
    gradient_prob: Probability = 0.6
    smear_prob: Probability = 0.0
    smear_contrast: tuple[float, float] = (0.02, 0.06)
    sharpen_prob: Probability = 0.6
    sharpen_amount: tuple[float, float] = (0.1, 1.0)
    jpeg_prob: Probability = 0.4
    jpeg_quality: tuple[int, int] = (80, 98)

    def __post_init__(self) -> None:
        check_fields(self)
        check_ranges(self, "blur_sigma", "photons", "read_noise", "smear_contrast", "sharpen_amount", "jpeg_quality")

    def __call__(self, hq: Tensor, size: tuple[int, int], rng: np.random.Generator) -> Tensor:
        """Degrade one image.

        Args:
            hq (Tensor): sharp image, shape (3, H, W), sRGB in [0, 1].
            size (tuple): height and width of the result, at most those of ``hq``.
            rng (numpy Generator): the only source of randomness.

        Returns:
            Tensor: shape (3, *size), values on the 8-bit grid of [0, 1].

        Raises:
            InvalidInputError: ``size`` is larger than ``hq``.
        """
        check_size(hq, size)
        light = filter2d(to_linear(hq[None]), self._point_spread(rng)[None])
        light = resize(light, size, "area", antialias=True).clamp(0, 1)  # sensor pixels integrate light over their area
        top, left = (int(v) for v in rng.integers(2, size=2))
        raw = self._noisy(mosaic(light, top, left), rng)
        colours = demosaic(raw, top, left, gradient=bool(rng.random() < self.gradient_prob))
        x = to_srgb(colours.clamp(0, 1))
        if self.smear_prob and rng.random() < self.smear_prob:  # no draw without it: older settings keep their draws
            x = smeared(x, rng.uniform(*self.smear_contrast))
        if rng.random() < self.sharpen_prob:
            x = sharpened(x, rng.uniform(*self.sharpen_amount))
        return jpeg_roundtrip(x[0], self.jpeg_quality, self.jpeg_prob, rng)

    def _point_spread(self, rng: np.random.Generator) -> Tensor:
        """Draw the point spread function, a kernel (k, k) with k odd."""
        ellipse = draw_ellipse(self.blur_sigma, self.isotropic_prob, rng)
        return defocus_kernel(*ellipse) if rng.random() < self.defocus_prob else gaussian_kernel(*ellipse)

    def _noisy(self, raw: Tensor, rng: np.random.Generator) -> Tensor:
        """Add photon noise, approximated by a Gaussian of the same variance, and read noise."""
        photons = np.exp(rng.uniform(*np.log(self.photons)))
        variance = raw / photons + rng.uniform(*self.read_noise) ** 2
        noise = torch.from_numpy(rng.standard_normal(tuple(raw.shape), dtype=np.float32))
        noisy: Tensor = raw + noise * variance.sqrt()
        return noisy


def smeared(x: Tensor, contrast: float) -> Tensor:
    """Denoise images by a guided filter (He et al. 2010) of 5×5 pixels with the luminance as guide, as phones do.

    Args:
        x (Tensor): images (B, 3, H, W), sRGB in [0, 1], H and W at least 3.
        contrast (float): differences whose local standard deviation lies below this are flattened; strong edges and
            their colours stay.
    """

    def mean(v: Tensor) -> Tensor:
        return F.avg_pool2d(F.pad(v, (2, 2, 2, 2), mode="reflect"), 5, 1)

    guide = luminance(x)
    grey, colour = mean(guide), mean(x)
    slope = (mean(guide * x) - grey * colour) / (mean(guide * guide) - grey * grey + contrast**2)
    return mean(slope) * guide + mean(colour - slope * grey)


def defocus_kernel(sigma_x: float, sigma_y: float, angle: float = 0.0) -> Tensor:
    """Create a flat-topped elliptic kernel (k, k), k odd, with given standard deviations.

    Args:
        sigma_x (float): standard deviation along the first principal axis, in pixels, > 0.
        sigma_y (float): standard deviation along the second principal axis.
        angle (float): rotation of the first axis, in radians.
    """
    size = 2 * max(1, int(np.ceil(3 * max(sigma_x, sigma_y)))) + 1
    # exp(-q^4 / 2) approximates a disc; its standard deviation along an axis is 0.55 sigma.
    sigma = torch.tensor([[sigma_x, sigma_y]]) / 0.55
    return smooth_kernels(
        ["generalized"], sigma, torch.tensor([angle]), torch.tensor([4.0]), torch.tensor([size]), max_size=size
    )[0]


def to_linear(x: Tensor) -> Tensor:
    """Convert sRGB values in [0, 1] to linear light in [0, 1] (IEC 61966-2-1)."""
    return torch.where(x <= 0.04045, x / 12.92, ((x + 0.055) / 1.055).clamp(min=0) ** 2.4)


def to_srgb(light: Tensor) -> Tensor:
    """Convert linear light in [0, 1] to sRGB values in [0, 1]."""
    return torch.where(light <= 0.0031308, light * 12.92, 1.055 * light.clamp(min=0.0031308) ** (1 / 2.4) - 0.055)


def mosaic(x: Tensor, top: int, left: int) -> Tensor:
    """Sample one colour per pixel, as a sensor with a Bayer filter does.

    Args:
        x (Tensor): images (B, 3, H, W), RGB.
        top, left (int): 0 or 1, row and column of the first red site; blue sites are diagonal to red ones.

    Returns:
        Tensor: shape (B, 1, H, W).
    """
    red, blue = _sites(x, top, left)
    return torch.where(red, x[:, :1], torch.where(blue, x[:, 2:], x[:, 1:2]))


def demosaic(raw: Tensor, top: int, left: int, gradient: bool) -> Tensor:
    """Reconstruct all three colours of every pixel from the result of :func:`mosaic`.

    Args:
        raw (Tensor): shape (B, 1, H, W), H and W at least 3.
        top, left (int): row and column of the first red site, as in :func:`mosaic`.
        gradient (bool): use gradient-corrected filters (Malvar, He and Cutler 2004) instead of averages.

    Returns:
        Tensor: shape (B, 3, H, W); values may exceed [0, 1].
    """
    between, along, diagonal = (torch.tensor(k, dtype=raw.dtype) / 8 for k in (_GRADIENT if gradient else _BILINEAR))
    filters = torch.stack([between, along, along.T, diagonal])[:, None]
    padded = F.pad(raw, (2, 2, 2, 2), mode="reflect")  # reflection without repeating the border keeps the Bayer pattern
    green, in_row, in_column, crossed = F.conv2d(padded, filters).chunk(4, 1)
    red, blue = _sites(raw, top, left)
    red_row = red.any(-1, keepdim=True)
    at_green_r = torch.where(red_row, in_row, in_column)
    at_green_b = torch.where(red_row, in_column, in_row)
    return torch.cat(
        [
            torch.where(red, raw, torch.where(blue, crossed, at_green_r)),
            torch.where(red | blue, green, raw),
            torch.where(blue, raw, torch.where(red, crossed, at_green_b)),
        ],
        1,
    )


def _sites(x: Tensor, top: int, left: int) -> tuple[Tensor, Tensor]:
    """Return boolean masks (H, W) of the red and the blue sites."""
    rows = (torch.arange(x.shape[-2], device=x.device) + top) % 2 == 0
    columns = (torch.arange(x.shape[-1], device=x.device) + left) % 2 == 0
    return rows[:, None] & columns, ~rows[:, None] & ~columns
