"""Faster CPU versions of :mod:`tsdsr.data.operators`, based on OpenCV.

The functions take and return tensors (B, 3, H, W) in [0, 1] and process one picture (H, W, C) at a time. Tensors in
``channels_last`` format pass from one function to the next without a copy.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tsdsr.data import operators
from tsdsr.data.operators import ResizeMode
from tsdsr.data.poisson import poisson_counts
from tsdsr.errors import MissingDependencyError, install_extra

try:
    import cv2
except ImportError as error:
    raise MissingDependencyError(f"degrading on the CPU needs OpenCV: {install_extra('train')}") from error

Picture = NDArray[np.float32]

_DIRECT_LIMIT = 11  # for larger kernels OpenCV uses an FFT that is slower than torch's
_CHROMA = [cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_420]
_NEGLIGIBLE = 1e-5  # share of a kernel's weight: a four-hundredth of a grey level
_INTERPOLATION = {"bilinear": cv2.INTER_LINEAR, "bicubic": cv2.INTER_CUBIC}


def filter2d(x: Tensor, kernels: Tensor) -> Tensor:
    """See :func:`tsdsr.data.operators.filter2d`. Kernel borders with a total weight below 1e-5 are cropped."""
    operators.check_kernels(x, kernels)
    return _batch(_filter(p, k) for p, k in zip(_pictures(x), kernels.float(), strict=True))


def _filter(picture: Picture, kernel: Tensor) -> Picture:
    weights = _trimmed(kernel.numpy())
    size, (height, width) = len(weights), picture.shape[:2]
    if size == 1:
        scaled: Picture = picture * weights[0, 0]
        return scaled
    pad = size // 2
    border = cv2.BORDER_REFLECT_101 if pad < min(height, width) else cv2.BORDER_REPLICATE
    columns, rows, total = weights.sum(0), weights.sum(1), weights.sum()
    if np.abs(np.outer(rows, columns) - total * weights).max() < 1e-7 * total:  # rank one, such as isotropic Gaussians
        return _as_picture(cv2.sepFilter2D(picture, -1, columns, rows / total, borderType=border))
    if size <= _DIRECT_LIMIT:
        return _as_picture(cv2.filter2D(picture, -1, weights, borderType=border))
    edges = [operators.fast_length(n + 2 * pad) for n in (height, width)]
    below, right = edges[0] - height - pad, edges[1] - width - pad
    padded = _as_picture(cv2.copyMakeBorder(picture, pad, below, pad, right, border))
    planes = torch.from_numpy(padded).permute(2, 0, 1).contiguous()
    turned = torch.from_numpy(weights[::-1, ::-1].copy())
    response = torch.fft.fft(torch.fft.rfft(turned, edges[1]), edges[0], dim=0)
    full = torch.fft.irfft2(torch.fft.rfft2(planes).mul_(response), s=edges)
    valid = full[:, size - 1 : size - 1 + height, size - 1 : size - 1 + width]
    result: Picture = valid.permute(1, 2, 0).contiguous().numpy()
    return result


def _trimmed(kernel: NDArray[np.float32]) -> NDArray[np.float32]:
    """Crop outer rings of a kernel (k, k) while their total weight is negligible."""
    middle = len(kernel) // 2
    axis = np.abs(np.arange(len(kernel)) - middle)
    rings = np.bincount(np.maximum(axis[:, None], axis).ravel(), np.abs(kernel).ravel())
    outside = np.cumsum(rings[::-1])[::-1]  # weight of ring i and of all rings outside it
    reach = max(0, int((outside > _NEGLIGIBLE * outside[0]).sum()) - 1)
    return kernel[middle - reach : middle + reach + 1, middle - reach : middle + reach + 1]


def resize(x: Tensor, size: tuple[int, int], mode: ResizeMode, antialias: bool = False) -> Tensor:
    """See :func:`tsdsr.data.operators.resize`."""
    if tuple(x.shape[-2:]) == tuple(size):
        return x
    if mode == "area" and size[0] >= x.shape[-2] and size[1] >= x.shape[-1]:
        return _batch(_enlarge_by_area(p, size) for p in _pictures(x))
    if antialias or mode == "area":  # OpenCV's area filter differs: it weights partly covered pixels
        return operators.resize(x.contiguous(), size, mode, antialias)
    return _batch(_as_picture(cv2.resize(p, size[::-1], interpolation=_INTERPOLATION[mode])) for p in _pictures(x))


def _enlarge_by_area(picture: Picture, size: tuple[int, int]) -> Picture:
    """Upscale with the area filter: each pixel is the mean of the source pixels it touches, one or two per axis."""

    def middles(source: int, target: int) -> NDArray[np.float32]:
        i = np.arange(target)
        first, last = i * source // target, ((i + 1) * source - 1) // target
        return ((first + last) / 2).astype(np.float32)

    y, x = np.meshgrid(middles(picture.shape[0], size[0]), middles(picture.shape[1], size[1]), indexing="ij")
    return _as_picture(cv2.remap(picture, x, y, cv2.INTER_LINEAR))


def add_gaussian_noise(x: Tensor, sigma: Tensor, grey: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """See :func:`tsdsr.data.operators.add_gaussian_noise`."""

    def noisy(picture: Picture, strength: float, is_grey: bool) -> Picture:
        shape = (*picture.shape[:2], 1 if is_grey else picture.shape[2])
        noise = torch.randn(shape, generator=generator).numpy()
        noise *= strength / 255
        return _sum(picture, noise)

    return _batch(noisy(*each) for each in zip(_pictures(x), sigma.tolist(), grey.tolist(), strict=True))


def add_poisson_noise(x: Tensor, scale: Tensor, grey: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """See :func:`tsdsr.data.operators.add_poisson_noise`."""

    def noisy(picture: Picture, strength: float, is_grey: bool) -> Picture:
        source = cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY)[..., None] if is_grey else picture
        levels = _to_bytes(source)
        flat = levels.reshape(len(levels), -1)
        photons = operators.photon_count(cv2.calcHist([flat], [0], None, [256], [0, 256]))
        noise = poisson_counts(levels, photons, generator)
        noise *= strength / photons
        return _sum(picture, noise - levels * np.float32(strength / 255))

    return _batch(noisy(*each) for each in zip(_pictures(x), scale.tolist(), grey.tolist(), strict=True))


def jpeg(x: Tensor, quality: Tensor) -> Tensor:
    """See :func:`tsdsr.data.operators.jpeg`; the quality is rounded to an integer."""

    def coded(picture: Picture, quality: int) -> Picture:
        pixels = cv2.cvtColor(_to_bytes(picture), cv2.COLOR_RGB2BGR)
        _, data = cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, quality, *_CHROMA])
        return _to_float(cv2.cvtColor(cv2.imdecode(data, cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB))

    return _batch(coded(p, round(q)) for p, q in zip(_pictures(x), quality.tolist(), strict=True))


def unsharp_mask(x: Tensor, weight: float = 0.5, size: int = 51, threshold: float = 10.0) -> Tensor:
    """See :func:`tsdsr.data.operators.unsharp_mask`."""

    def sharpened(picture: Picture) -> Picture:
        detail = picture - blur(picture)
        mask = blur((np.abs(detail) * 255 > threshold).astype(np.float32))
        mask *= np.clip(picture + weight * detail, 0, 1) - picture
        mask += picture
        return mask

    def blur(picture: Picture) -> Picture:
        border = cv2.BORDER_REFLECT_101 if size // 2 < min(picture.shape[:2]) else cv2.BORDER_REPLICATE
        return _as_picture(cv2.GaussianBlur(picture, (size, size), 0, borderType=border))

    return _batch(sharpened(p) for p in _pictures(x))


def quantise(x: Tensor) -> Tensor:
    """See :func:`tsdsr.data.operators.quantise`."""
    return _batch(_to_float(_to_bytes(p)) for p in _pictures(x))


def _pictures(x: Tensor) -> list[Picture]:
    """Return views (H, W, C), float32, of a batch; copies if its memory format or dtype differs."""
    return list(x.float().permute(0, 2, 3, 1).contiguous().numpy())


def _as_picture(array: NDArray[Any]) -> Picture:
    """Restore the channel axis, which OpenCV drops for a single channel."""
    return array.reshape(*array.shape[:2], -1)


def _batch(pictures: Iterable[Picture]) -> Tensor:
    """Stack pictures (H, W, C) to a tensor (B, C, H, W) in channels_last format. A single picture is not copied."""
    tensors = [torch.from_numpy(p) for p in pictures]
    return (tensors[0][None] if len(tensors) == 1 else torch.stack(tensors)).permute(0, 3, 1, 2)


def _to_bytes(picture: Picture) -> NDArray[np.uint8]:
    """Clamp to [0, 1] and round to 8 bits."""
    scaled: NDArray[np.uint8] = cv2.convertScaleAbs(np.maximum(picture, 0), alpha=255)
    return scaled.reshape(picture.shape)


def _to_float(pixels: NDArray[Any]) -> Picture:
    result: Picture = pixels.astype(np.float32)
    result /= 255
    return result


def _sum(picture: Picture, noise: Picture) -> Picture:
    """Add noise and clip to [0, 1]. Writes into ``noise`` if the shapes are equal."""
    total = np.add(picture, noise, out=noise if noise.shape == picture.shape else None)
    return np.clip(total, 0, 1, out=total)
