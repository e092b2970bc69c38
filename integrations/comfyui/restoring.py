"""Batches of ComfyUI's images and masks through a pipeline."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict

import numpy as np
import torch
from torch import Tensor

from tsdsr.errors import InvalidInputError
from tsdsr.images.picture import Picture
from tsdsr.pipeline.options import RestoreOptions
from tsdsr.pipeline.picture_restorer import picture_restorer
from tsdsr.pipeline.sr_pipeline import SRPipeline
from tsdsr.pixels import from_unit, to_unit

OnTile = Callable[[int, int], None]


def target_of(width: int, height: int, image: Tensor) -> tuple[int, int] | None:
    """Return the target size: width and height as given, the missing one by the aspect; None if both are 0."""
    rows, columns = image.shape[1:3]
    if not width and not height:
        return None
    return width or math.ceil(columns * height / rows), height or math.ceil(rows * width / columns)


def restore_batch(
    pipe: SRPipeline,
    image: Tensor,
    mask: Tensor | None,
    options: RestoreOptions,
    seed: int | None,
    on_tile: OnTile,
) -> tuple[Tensor, Tensor]:
    """Restore and enlarge a batch, one picture after the other.

    Pictures are float32 throughout. A picture with transparent pixels goes through 16 bits, as a file of 16 bits does:
    colours are extended below transparent pixels, and alpha is enlarged with sharp edges.

    Args:
        pipe (SRPipeline): the pipeline.
        image (Tensor): (B, h, w, C), C = 1 or 3; values beyond [0, 1] are clamped.
        mask (Tensor | None): (h, w) or (B or 1, h, w) in [0, 1]; 1 is transparent, as in *Load Image*.
        options (RestoreOptions): how to restore.
        seed (int | None): seed for sampling; every picture has the same.
        on_tile (callable): called with (finished, total) tiles of the batch.

    Returns:
        tuple: images (B, H, W, C) and masks (B, H, W), float32 in [0, 1], on the CPU.

    Raises:
        InvalidInputError: image and mask do not fit together, or an option is out of range.
    """
    _check_channels(image)
    masks = _masks_of(mask, image)
    size = options.size(*image.shape[1:3])
    images = torch.empty(len(image), *size, image.shape[3])
    enlarged = torch.zeros(len(image), *size)
    for i, (pixels, hidden) in enumerate(zip(image, masks, strict=True)):
        progress = _Progress(on_tile, i, len(image))
        x = pixels.detach().to("cpu", torch.float32).clamp(0, 1).numpy()
        if hidden is None:
            result = pipe.upscale_pixels(x, generator=seed, on_tile=progress, **asdict(options))
            images[i] = torch.from_numpy(np.asarray(result))
            continue
        alpha = from_unit(1 - hidden, "uint16")
        picture = picture_restorer(pipe, options, seed, on_tile=progress)(Picture(from_unit(x, "uint16"), alpha))
        images[i] = torch.from_numpy(to_unit(picture.pixels))
        enlarged[i] = torch.from_numpy(1 - to_unit(picture.alpha))
    return images, enlarged


class _Progress:
    """Progress of one picture as that of the batch, whose pictures have as many tiles each."""

    def __init__(self, on_tile: OnTile, index: int, count: int) -> None:
        self._on_tile, self._index, self._count = on_tile, index, count

    def __call__(self, done: int, total: int) -> None:
        self._on_tile(self._index * total + done, self._count * total)


def _check_channels(image: Tensor) -> None:
    if image.ndim != 4 or image.shape[3] not in (1, 3):
        raise InvalidInputError(
            f"the image has the shape {tuple(image.shape)}, not (B, H, W, 1 or 3): put 'Split Image with Alpha' before "
            "it, and connect its mask"
        )


def _masks_of(mask: Tensor | None, image: Tensor) -> list[np.ndarray | None]:
    """Return the mask of each picture; None if it is opaque. *Load Image* gives an opaque one of any size."""
    if mask is None or not bool(mask.any()):
        return [None] * len(image)
    masks = mask[None] if mask.ndim == 2 else mask
    if masks.shape[1:] != image.shape[1:3] or len(masks) not in (1, len(image)):
        raise InvalidInputError(
            f"the mask has the shape {tuple(mask.shape)} and the image {tuple(image.shape)}: connect the mask of the "
            "same pictures, or none"
        )
    planes = masks.detach().to("cpu", torch.float32).clamp(0, 1).numpy()
    return [planes[i % len(planes)] if planes[i % len(planes)].any() else None for i in range(len(image))]
