"""Images in the forms callers bring ↔ tensors (B, 3, H, W) in [0, 1]."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from tsdsr.errors import InvalidInputError

ImageInput = Image.Image | Tensor | Sequence[Image.Image] | Sequence[Tensor]
OutputType = Literal["pil", "pt", "np"]


def pad_to_multiple(x: Tensor, multiple: int) -> Tensor:
    """Extend x (B, C, H, W) at the right and bottom to multiples, by reflection where the image is large enough."""
    bottom, right = -x.shape[-2] % multiple, -x.shape[-1] % multiple
    if not bottom and not right:
        return x
    mode = "reflect" if bottom < x.shape[-2] and right < x.shape[-1] else "replicate"
    return F.pad(x, (0, right, 0, bottom), mode=mode)


def to_tensors(image: ImageInput) -> tuple[list[Tensor], OutputType]:
    """Inputs as a list of batches (B, 3, h, w) in [0, 1], and the kind they came as ("pil" or "pt").

    Raises:
        InvalidInputError: another type, shape, dtype or value range.
    """
    if isinstance(image, Image.Image):
        return [_from_pil(image)], "pil"
    if isinstance(image, Tensor):
        return [_checked(image)], "pt"
    if isinstance(image, Sequence) and not isinstance(image, str | bytes) and image:
        parts = [to_tensors(item) for item in image]
        kinds = {kind for _, kind in parts}
        if len(kinds) > 1:
            raise InvalidInputError("a list must hold PIL images only or tensors only")
        return [tensor for tensors, _ in parts for tensor in tensors], kinds.pop()
    raise InvalidInputError(
        f"image must be a PIL image, a tensor or a non-empty list of them, got {type(image).__name__}"
    )


def _from_pil(image: Image.Image) -> Tensor:
    if image.mode == "F":
        raise InvalidInputError("floating-point images have no defined range; scale to [0, 1] and pass a tensor")
    if image.mode.startswith("I"):  # 16-bit grey: Pillow's own conversion would clip instead of scaling
        grey = np.asarray(image, dtype=np.float32) / 65535
        array = np.repeat(grey.clip(0, 1)[..., None], 3, axis=-1)
    else:
        array = np.asarray(image.convert("RGB"), dtype=np.float32) / 255
    return torch.from_numpy(array).permute(2, 0, 1)[None]


def _checked(image: Tensor) -> Tensor:
    x = image[None] if image.ndim == 3 else image
    if x.ndim != 4 or x.shape[1] != 3 or not x.numel():
        raise InvalidInputError(f"an image tensor has shape (B, 3, h, w) or (3, h, w), got {tuple(image.shape)}")
    if not x.is_floating_point():
        raise InvalidInputError(f"an image tensor is floating point in [0, 1], got {x.dtype}")
    low, high = float(x.min()), float(x.max())
    if not (low >= -1e-3 and high <= 1 + 1e-3):
        raise InvalidInputError(f"image values must lie in [0, 1], got {low:.3g} to {high:.3g}")
    return x


def from_tensors(results: list[Tensor], kind: OutputType) -> Any:
    """Batches (B, 3, H, W) in [0, 1] → list of PIL images, tensor (or list of batches when sizes differ), or arrays."""
    if kind == "pt":
        same = len({r.shape[1:] for r in results}) == 1
        return torch.cat(results) if same else results
    singles = [single for batch in results for single in batch]
    if kind == "np":
        return [single.permute(1, 2, 0).numpy() for single in singles]
    if kind == "pil":
        return [to_pil(single) for single in singles]
    raise InvalidInputError(f"output_type must be 'pil', 'pt' or 'np', got {kind!r}")


def to_pil(x: Tensor) -> Image.Image:
    """One image (3, H, W) in [0, 1] → 8-bit RGB, rounded to nearest."""
    return Image.fromarray(x.mul(255).round().clamp(0, 255).byte().permute(1, 2, 0).cpu().numpy())
