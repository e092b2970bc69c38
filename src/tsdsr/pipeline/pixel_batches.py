"""Convert between images of the supported types and batches of pixels (B, C, H, W)."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np
from numpy.typing import DTypeLike
from PIL import Image, ImageOps

from tsdsr.arrays import Array, is_torch
from tsdsr.errors import InvalidInputError, require_torch
from tsdsr.images.color_modes import rgb_of
from tsdsr.pipeline.canvas import make_canvas

if TYPE_CHECKING:
    from torch import Tensor

ImageInput: TypeAlias = (
    "Image.Image | np.ndarray | Tensor | Sequence[Image.Image] | Sequence[np.ndarray] | Sequence[Tensor]"
)
OutputType = Literal["pil", "pt", "np"]


def to_pixels(image: ImageInput) -> tuple[list[Array], OutputType]:
    """Convert inputs to batches (B, C, h, w) in their own precision, C = 1 or 3, and return their kind.

    Tensors stay tensors where they are; images and arrays become numpy arrays.

    Raises:
        InvalidInputError: unsupported type, shape, dtype or value range.
    """
    if isinstance(image, Image.Image):
        return [_from_pil(image)], "pil"
    if isinstance(image, np.ndarray):
        return [from_array(image)], "np"
    if is_torch(image):
        return [_checked(image)], "pt"
    if isinstance(image, Sequence) and not isinstance(image, str | bytes) and image:
        parts = [to_pixels(item) for item in image]
        kinds = {kind for _, kind in parts}
        if len(kinds) > 1:
            raise InvalidInputError("a list must contain only PIL images, only arrays or only tensors")
        return [batch for batches, _ in parts for batch in batches], kinds.pop()
    raise InvalidInputError(
        f"image must be a PIL image, an array, a tensor or a non-empty list of them, got {type(image).__name__}"
    )


def from_array(pixels: np.ndarray) -> np.ndarray:
    """View an array (H, W, C) as a batch (1, C, H, W).

    Raises:
        InvalidInputError: unsupported shape, dtype or value range.
    """
    pixels = np.asarray(pixels)  # a subclass, such as a masked array, computes by rules of its own
    if pixels.ndim != 3 or pixels.shape[2] not in (1, 3) or not pixels.size:
        raise InvalidInputError(f"pixels have shape (H, W, C) with C = 1 or 3, got {pixels.shape}")
    if pixels.dtype not in (np.uint8, np.uint16, np.float32):
        raise InvalidInputError(f"pixels are uint8, uint16 or float32, got {pixels.dtype}")
    x: np.ndarray = pixels.transpose(2, 0, 1)[None]
    if x.dtype == np.float32:
        _check_range(x)
    return x


def _from_pil(image: Image.Image) -> np.ndarray:
    image = upright(image)
    if image.mode == "F":
        raise InvalidInputError("floating-point images have no defined range; scale to [0, 1] and pass a tensor")
    if image.mode == "I":
        raise InvalidInputError(
            "32-bit integer images have no defined range; convert to 'L', or pass an array in uint8 or uint16"
        )
    if image.mode.startswith("I;16"):  # Pillow's own conversion would clip instead of scaling
        return from_array(np.asarray(image).astype(np.uint16)[..., None])
    return from_array(rgb_of(image))


def upright(image: Image.Image) -> Image.Image:
    """Rotate an image by its EXIF orientation."""
    with warnings.catch_warnings(), suppress(Exception):  # Pillow raises almost any exception for a damaged block
        warnings.simplefilter("ignore")
        return ImageOps.exif_transpose(image)
    return image


def _checked(image: Tensor) -> Tensor:
    x = image[None] if image.ndim == 3 else image
    if x.ndim != 4 or x.shape[1] != 3 or not x.numel():
        raise InvalidInputError(f"an image tensor has shape (B, 3, h, w) or (3, h, w), got {tuple(image.shape)}")
    if not x.is_floating_point():
        raise InvalidInputError(f"an image tensor is floating point in [0, 1], got {x.dtype}")
    x = x.detach()
    _check_range(x)
    return x


def _check_range(x: Array) -> None:
    low, high = float(x.min()), float(x.max())
    if not (low >= -1e-3 and high <= 1 + 1e-3):
        raise InvalidInputError(f"image values must lie in [0, 1], got {low:.3g} to {high:.3g}")


def empty_result(batch: int, size: tuple[int, int], kind: OutputType, dtype: DTypeLike) -> np.ndarray:
    """Allocate a result (B, 3, *size) in the memory layout that :func:`from_batches` returns.

    Raises:
        MissingDependencyError: tensors are wanted, and torch is not installed.
    """
    if kind == "pt":
        require_torch("output_type 'pt'", packages=("torch",))
        return make_canvas((batch, 3, *size), dtype)
    canvas: np.ndarray = make_canvas((batch, *size, 3), dtype).transpose(0, 3, 1, 2)
    return canvas


def from_batches(results: list[np.ndarray], kind: OutputType) -> Any:
    """Convert batches (B, 3, H, W) to PIL images, a tensor (a list of batches if sizes differ), or arrays.

    Args:
        results (list of ndarray): in the dtype of :func:`result_dtype`.
        kind ("pil" | "pt" | "np"): kind of result.
    """
    if kind == "pt":
        import torch

        tensors = [torch.from_numpy(batch) for batch in results]
        same = len({tensor.shape[1:] for tensor in tensors}) == 1
        return (torch.cat(tensors) if len(tensors) > 1 else tensors[0]) if same else tensors
    singles = [single.transpose(1, 2, 0) for batch in results for single in batch]
    return [Image.fromarray(single) for single in singles] if kind == "pil" else singles


def result_dtype(kind: str) -> type[np.generic]:
    """Return the dtype of a kind of result: uint8 for PIL images, else float32.

    Raises:
        InvalidInputError: unknown kind.
    """
    if kind not in ("pil", "pt", "np"):
        raise InvalidInputError(f"output_type must be 'pil', 'pt' or 'np', got {kind!r}")
    return np.uint8 if kind == "pil" else np.float32
