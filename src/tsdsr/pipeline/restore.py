"""One picture through a model: colour and transparency."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from tsdsr.pipeline.alpha import carried_on, enlarged_alpha
from tsdsr.pipeline.picture import Picture, Pixels
from tsdsr.pipeline.pipeline import OneStepSRPipeline

Enlarge = Callable[[Pixels], Pixels]


def restore_picture(picture: Picture, enlarge: Enlarge) -> Picture:
    """Restore and enlarge a picture; the model sees colours only.

    Where there is transparency, the visible colours are carried on below it first, so that no colour that nobody sees
    gets into an edge; alpha is enlarged by itself. Metadata stays the input's.

    Args:
        picture (Picture): what to enlarge.
        enlarge (callable): pixels (h, w, C) to pixels (H, W, C) of the same dtype and number of channels.
    """
    pixels, alpha = picture.pixels, picture.alpha
    if alpha is None:
        return replace(picture, pixels=enlarge(pixels))
    transparent = int(alpha.min()) < picture.full
    pixels = enlarge(carried_on(pixels, alpha) if transparent else pixels)
    return replace(picture, pixels=pixels, alpha=enlarged_alpha(alpha, pixels.shape[:2]))


def upscale_pixels(pipe: OneStepSRPipeline, pixels: Pixels, scale: float = 4.0, **options: Any) -> Pixels:
    """Pixels through a pipeline, in float: no step at 8 bits.

    Args:
        pipe (OneStepSRPipeline): the model.
        pixels (array): (H, W, C), C = 1 or 3, of uint8 or uint16. Grey is given to the model as three equal channels.
        scale (float): enlargement.
        **options: further arguments of the pipeline.

    Returns:
        array: enlarged, of the same dtype and number of channels.
    """
    full = int(np.iinfo(pixels.dtype).max)
    x = torch.from_numpy(pixels.astype(np.float32) / full).permute(2, 0, 1)[None]
    result = pipe(x.expand(1, 3, -1, -1), scale, output_type="pt", **options).images[0]
    if pixels.shape[2] == 1:
        result = result.mean(0, keepdim=True)
    rounded: Pixels = np.rint(result.permute(1, 2, 0).numpy() * full).astype(pixels.dtype)
    return rounded
