"""Degradation operators on batches (B, 3, H, W) in [0, 1], with separate parameters for each sample.

Random operators take a generator and do not use the global state. All operators run on CPU and GPU;
:mod:`tsdsr.data.operators_cpu` has faster versions for the CPU.
"""

from __future__ import annotations

import io
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from tsdsr.errors import InvalidInputError, MissingDependencyError, install_extra
from tsdsr.pixels import to_tensor, to_uint8

ResizeMode = Literal["area", "bilinear", "bicubic"]
RESIZE_MODES: tuple[ResizeMode, ...] = ("area", "bilinear", "bicubic")
_DIRECT_LIMIT = 9  # kernels up to this edge are applied by direct convolution, larger ones by FFT
_GREY = (0.2989, 0.587, 0.114)


def filter2d(x: Tensor, kernels: Tensor) -> Tensor:
    """Filter each image with its own kernel. Padding is reflection, or replication if the image is too small.

    Args:
        x (Tensor): images (B, C, H, W).
        kernels (Tensor): shape (B, k, k), k odd; applied as correlation, as in OpenCV and torch.

    Returns:
        Tensor: shape of ``x``.

    Raises:
        InvalidInputError: Kernel sizes are even, or the batch sizes differ.
    """
    check_kernels(x, kernels)
    kernels = _trimmed(kernels.to(x.device, x.dtype))
    size = kernels.shape[-1]
    if size == 1:
        return x * kernels[:, None]
    pad = size // 2
    padded = F.pad(x, (pad,) * 4, mode="reflect" if pad < min(x.shape[-2:]) else "replicate")
    if size <= _DIRECT_LIMIT:
        batch, channels = x.shape[:2]
        weight = kernels.repeat_interleave(channels, 0)[:, None]
        flat = padded.reshape(1, batch * channels, *padded.shape[-2:])
        return F.conv2d(flat, weight, groups=batch * channels).reshape(x.shape)
    edges = [fast_length(n) for n in padded.shape[-2:]]
    spectrum = torch.fft.rfft2(padded, s=edges) * torch.fft.rfft2(kernels.flip(-2, -1), s=edges)[:, None]
    full: Tensor = torch.fft.irfft2(spectrum, s=edges)
    return full[..., size - 1 : padded.shape[-2], size - 1 : padded.shape[-1]]


def check_kernels(x: Tensor, kernels: Tensor) -> None:
    """Check that ``kernels`` are (B, k, k), k odd, with the batch size of ``x``; raise InvalidInputError otherwise."""
    if kernels.ndim != 3 or kernels.shape[0] != x.shape[0] or kernels.shape[-1] % 2 == 0:
        raise InvalidInputError(
            f"kernels must be (B, k, k) with k odd, got {tuple(kernels.shape)} for {tuple(x.shape)}"
        )


def _trimmed(kernels: Tensor) -> Tensor:
    """Crop borders that are zero in every kernel, so that zero padding costs no time."""
    centre = kernels.shape[-1] // 2
    used = (kernels != 0).any(0).nonzero()
    reach = int((used - centre).abs().max()) if len(used) else 0
    return kernels[:, centre - reach : centre + reach + 1, centre - reach : centre + reach + 1]


def fast_length(n: int) -> int:
    """Return the next length of the form 2^a 3^b 5^c, for which the FFT is fast."""
    while True:
        rest = n
        for factor in (2, 3, 5):
            while rest % factor == 0:
                rest //= factor
        if rest == 1:
            return n
        n += 1


def resize(x: Tensor, size: tuple[int, int], mode: ResizeMode, antialias: bool = False) -> Tensor:
    """Resize images.

    Args:
        x (Tensor): images (B, C, H, W).
        size (tuple): target height and width.
        mode ("area" | "bilinear" | "bicubic"): interpolation filter.
        antialias (bool): widen the filter when downscaling. The published recipes do not: aliasing is part of the
            degradation.
    """
    if tuple(x.shape[-2:]) == tuple(size):
        return x
    if mode == "area":
        return F.interpolate(x, size=size, mode="area")
    return F.interpolate(x, size=size, mode=mode, align_corners=False, antialias=antialias)


def add_gaussian_noise(x: Tensor, sigma: Tensor, grey: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """Add white Gaussian noise.

    Args:
        x (Tensor): images (B, 3, H, W).
        sigma (Tensor): standard deviation for each sample in units of 1/255, shape (B,).
        grey (Tensor): whether a sample gets the same noise in all channels, bool, shape (B,).
        generator: source of the noise, on ``x``'s device.
    """
    noise = torch.randn(x.shape, generator=generator, device=x.device, dtype=x.dtype)
    noise = torch.where(_column(grey, x), noise[:, :1], noise)
    return (x + noise * (_column(sigma, x) / 255)).clamp(0, 1)


def add_poisson_noise(x: Tensor, scale: Tensor, grey: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """Add shot noise: the deviation of a Poisson count from its mean, times ``scale``.

    As in Real-ESRGAN, the photon count at full intensity is the number of distinct 8-bit values in the image, rounded
    up to a power of two. Grey noise is computed from the luminance and added to all channels.

    Args:
        x (Tensor): images (B, 3, H, W).
        scale (Tensor): noise strength for each sample, shape (B,).
        grey (Tensor): whether a sample gets grey noise, bool, shape (B,).
        generator: source of the noise, on ``x``'s device.
    """
    noise = torch.empty_like(x)
    for i, is_grey in enumerate(grey.tolist()):
        source = luminance(x[i : i + 1]) if is_grey else x[i : i + 1]
        levels = (source.clamp(0, 1) * 255).round()
        photons = photon_count(torch.bincount(levels.flatten().int(), minlength=256))
        counts = torch.poisson(levels * (photons / 255), generator=generator)
        noise[i] = (counts / photons - levels / 255)[0]
    return (x + noise * _column(scale, x)).clamp(0, 1)


def photon_count(histogram: Tensor | NDArray[Any]) -> int:
    """Return the number of non-empty histogram bins, rounded up to a power of two."""
    return 1 << max(0, int((histogram > 0).sum()) - 1).bit_length()


def luminance(x: Tensor) -> Tensor:
    """Compute the ITU-R BT.601 luma (B, 1, H, W) of images (B, 3, H, W)."""
    return (x * x.new_tensor(_GREY)[:, None, None]).sum(1, keepdim=True)


def jpeg(x: Tensor, quality: Tensor) -> Tensor:
    """Compress and decompress with JPEG: Pillow (libjpeg, 4:2:0) on the CPU, kornia's codec on other devices.

    Args:
        x (Tensor): images (B, 3, H, W), clamped to [0, 1] first.
        quality (Tensor): 1 to 100, shape (B,); rounded to an integer for Pillow.

    Raises:
        MissingDependencyError: kornia is needed but not installed.
    """
    if x.device.type == "cpu":
        return torch.stack([jpeg_pillow(image, round(float(q))) for image, q in zip(x, quality, strict=True)])
    return jpeg_kornia(x, quality)


def jpeg_pillow(x: Tensor, quality: int) -> Tensor:
    """Compress and decompress one image (3, H, W) with libjpeg and 4:2:0 chroma, on the CPU."""
    buffer = io.BytesIO()
    Image.fromarray(to_uint8(x)).save(buffer, format="JPEG", quality=quality, subsampling="4:2:0")
    with Image.open(buffer) as image:
        return to_tensor(np.asarray(image)).to(x.dtype)


def jpeg_kornia(x: Tensor, quality: Tensor) -> Tensor:
    """Compress and decompress a batch with kornia's codec, on any device; pads sides to multiples of 16 internally."""
    try:
        from kornia.enhance import jpeg_codec_differentiable
    except ImportError as error:
        raise MissingDependencyError(f"JPEG on a GPU needs kornia: {install_extra('train')}") from error
    height, width = x.shape[-2:]
    padded = F.pad(x.clamp(0, 1), (0, -width % 16, 0, -height % 16), mode="replicate")
    coded: Tensor = jpeg_codec_differentiable(padded, quality.to(x.device, x.dtype))
    return coded[..., :height, :width].clamp(0, 1)


def unsharp_mask(x: Tensor, weight: float = 0.5, size: int = 51, threshold: float = 10.0) -> Tensor:
    """Unsharp-mask as Real-ESRGAN does for its ground truth. A soft mask keeps flat regions unchanged.

    Args:
        x (Tensor): images (B, 3, H, W).
        weight (float): weight of the added detail.
        size (int): odd edge of the Gaussian; its sigma is ``0.3 (size / 2 - 1.5) + 0.8``, OpenCV's rule.
        threshold (float): the mask selects detail above this many grey levels.
    """
    sigma = 0.3 * ((size - 1) * 0.5 - 1) + 0.8
    axis = torch.arange(size, device=x.device, dtype=x.dtype) - size // 2
    line = torch.exp(-0.5 * (axis / sigma) ** 2)
    line = line / line.sum()

    def blur(image: Tensor) -> Tensor:
        pad = size // 2
        mode = "reflect" if pad < min(image.shape[-2:]) else "replicate"
        for shape, padding in (((1, size), (pad, pad, 0, 0)), ((size, 1), (0, 0, pad, pad))):
            weight = line.reshape(1, 1, *shape).expand(image.shape[1], 1, *shape)
            image = F.conv2d(F.pad(image, padding, mode=mode), weight, groups=image.shape[1])
        return image

    detail = x - blur(x)
    mask = blur((detail.abs() * 255 > threshold).to(x.dtype))
    return mask * (x + weight * detail).clamp(0, 1) + (1 - mask) * x


def quantise(x: Tensor) -> Tensor:
    """Clamp to [0, 1] and round to 8 bits."""
    return (x.clamp(0, 1) * 255).round() / 255


def _column(values: Tensor, x: Tensor) -> Tensor:
    """Reshape (B,) to (B, 1, 1, 1) on the device of ``x``."""
    return values.to(x.device).reshape(-1, 1, 1, 1)
