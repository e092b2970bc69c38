"""Exact reproduction of the released TSD-SR inference, for comparison with its results.

It differs from :class:`~tsdsr.pipeline.diffusers_pipeline.OneStepSRPipeline` as follows:

* An image whose result is smaller than 512 pixels on a side is enlarged further, restored, and shrunk back.
* Sides are rounded *down* to multiples of 8 and the result is stretched to the target size. (Default: padding, which
  is cropped afterwards.)
* Latents with more than 64×64 positions are cut into 64×64 tiles with an overlap of 8, weighted by a Gaussian that is
  shifted by half a position along the vertical axis. (Default: symmetric weights.)
* AdaIN takes its statistics from the small input, the wavelet fix from Pillow's own bicubic enlargement. (Default: both
  from the network's input.)
* Values are truncated to 8 bits, once before and once after the colour fix. (Default: rounded once, at the end.)
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from tsdsr.errors import InvalidInputError
from tsdsr.models.zoo import ModelSpec
from tsdsr.pipeline.color import adain_color_fix, wavelet_color_fix
from tsdsr.pipeline.diffusers_pipeline import OneStepSRPipeline
from tsdsr.pipeline.options import ColorFix
from tsdsr.pipeline.pixel_batches import upright
from tsdsr.pixels import to_tensor

_PROCESS_SIZE, _TILE, _OVERLAP = 512, 64, 8


def check_upstream_model(spec: ModelSpec) -> None:
    """Check that there is released code for a model.

    Raises:
        InvalidInputError: there is none.
    """
    if "pooled_prompt_embeds" not in spec.prompt_shapes:
        raise InvalidInputError(f"the upstream preset exists for SD3 models, not for {spec.name!r}")


def check_upstream_scale(scale: float) -> None:
    """Check that the released code supports a scale.

    Raises:
        InvalidInputError: it does not.
    """
    if not 1 <= scale <= 8 or scale != int(scale):
        raise InvalidInputError(f"the upstream preset takes whole scales from 1 to 8, got {scale:g}")


@torch.no_grad()
def upscale_like_upstream(
    pipe: OneStepSRPipeline, image: Image.Image, scale: float = 4, color_fix: ColorFix = "wavelet"
) -> Image.Image:
    """Restore and enlarge one image exactly as the released inference script does (autoencoder untiled).

    Args:
        pipe (OneStepSRPipeline): an SD3 pipeline.
        image (PIL image): rotated by its EXIF orientation, then converted to RGB.
        scale (float): enlargement, a whole number.
        color_fix ("wavelet" | "adain" | "none"): as in the released script; "none" is its "nofix".

    Returns:
        PIL image: RGB, ``scale`` times the input's size.

    Raises:
        InvalidInputError: the model is not an SD3, or the scale is not a whole number.
    """
    check_upstream_model(pipe.spec)
    check_upstream_scale(scale)
    image, factor = upright(image).convert("RGB"), int(scale)
    wanted = (image.width * factor, image.height * factor)
    size = _process_size(image.width, image.height, factor)
    x = _to_tensor(image).to(pipe.device)
    x = F.interpolate(x, size=(size[1], size[0]), mode="bicubic", align_corners=False).clamp(0, 1)
    z_lq = pipe.encode(x)
    x_hat = pipe.decode(_denoise(pipe, z_lq))
    result = _truncate(x_hat)
    if result.size != wanted:
        result = result.resize(wanted)
    if color_fix == "adain":
        return _truncate(adain_color_fix(_to_tensor(result), _to_tensor(image)))
    if color_fix == "wavelet":
        return _truncate(wavelet_color_fix(_to_tensor(result), _to_tensor(image.resize(wanted))))
    return result


def _process_size(width: int, height: int, scale: int) -> tuple[int, int]:
    """Return width and height of the network's input."""
    smallest = _PROCESS_SIZE // scale
    if min(width, height) < smallest:
        factor = smallest / min(width, height)
        width, height = int(factor * width), int(factor * height)
    return width * scale // 8 * 8, height * scale // 8 * 8


def _denoise(pipe: OneStepSRPipeline, z_lq: Tensor) -> Tensor:
    """Take the one step, on the whole latent or on off-centre Gaussian tiles."""
    height, width = z_lq.shape[-2:]
    if height * width <= _TILE**2:
        return pipe.denoise(z_lq)
    tile = min(_TILE, height, width)
    weight = torch.outer(_gaussian(tile, tile / 2), _gaussian(tile, (tile - 1) / 2)).to(z_lq.device)
    total, weights = torch.zeros_like(z_lq), torch.zeros_like(z_lq)
    for left in _starts(width, tile):
        for top in _starts(height, tile):
            window = (..., slice(top, top + tile), slice(left, left + tile))
            total[window] += pipe.denoise(z_lq[window]) * weight
            weights[window] += weight
    return total / weights


def _gaussian(tile: int, centre: float) -> Tensor:
    """Return an unnormalised Gaussian of variance 0.01 tile², float64."""
    position = torch.arange(tile, dtype=torch.float64)
    return torch.exp(-((position - centre) ** 2) / (2 * 0.01 * tile**2))


def _starts(length: int, tile: int) -> list[int]:
    """Return tile starts at strides of tile minus overlap; the last tile ends at the border."""
    count, stride = 1, tile - _OVERLAP
    while (count - 1) * stride + tile < length:
        count += 1
    return [i * stride for i in range(count - 1)] + [length - tile]


def _to_tensor(image: Image.Image) -> Tensor:
    return to_tensor(np.asarray(image))[None]


def _truncate(x: Tensor) -> Image.Image:
    # Truncated like torchvision's ToPILImage in the released code, not rounded as in tsdsr.pixels.
    pixels = x[0].clamp(0, 1).mul(255).byte().permute(1, 2, 0).cpu().numpy()
    return Image.fromarray(pixels)
