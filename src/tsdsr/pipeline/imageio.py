"""Reading photographs into RGB and writing results: typed errors, a pixel limit, no half-written files."""

from __future__ import annotations

import logging
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from tsdsr.errors import ImageReadError, ImageTooLargeError, ImageWriteError, InvalidInputError
from tsdsr.files import atomic_path

logger = logging.getLogger(__name__)

FORMATS: dict[str, str] = {
    ".png": "PNG",
    ".jpg": "JPEG",
    ".jpeg": "JPEG",
    ".webp": "WEBP",
    ".tif": "TIFF",
    ".tiff": "TIFF",
    ".bmp": "BMP",
}
"""File suffixes read and written, and Pillow's name of the format."""

SAVE_OPTIONS: dict[str, dict[str, Any]] = {
    "PNG": {"compress_level": 4},
    "JPEG": {"quality": 95, "subsampling": 0},
    "WEBP": {"quality": 95, "method": 4},
    "TIFF": {"compression": "tiff_deflate"},
    "BMP": {},
}
"""How each format is written: JPEG at quality 95 without chroma subsampling, the lossless formats compressed."""

DEFAULT_MAX_PIXELS = 100_000_000
"""Inputs with more pixels are refused unless the caller lifts the limit."""

_pillow_limit = threading.Lock()


def read_image(path: Path, max_pixels: int | None = DEFAULT_MAX_PIXELS) -> Image.Image:
    """Decode a file to 8-bit RGB (16-bit grey stays ``I;16``), with the EXIF orientation applied.

    Transparency is flattened onto white, with a notice in the log.

    Args:
        path (Path): PNG, JPEG, WebP, TIFF or BMP, recognised by content.
        max_pixels (int | None): largest number of pixels accepted; None accepts any.

    Raises:
        ImageReadError: missing, not an image, truncated, or animated.
        ImageTooLargeError: more than ``max_pixels``.
    """
    if not path.is_file():
        raise ImageReadError(f"{path}: {'is a folder, not a file' if path.is_dir() else 'no such file'}")
    try:
        with _limit_lifted(), Image.open(path) as image:
            if max_pixels is not None and image.width * image.height > max_pixels:
                raise ImageTooLargeError(
                    f"{path}: {image.width}x{image.height} pixels are more than the limit of {max_pixels}; "
                    f"if you trust the file, raise the limit with --max-pixels"
                )
            if getattr(image, "n_frames", 1) > 1:
                raise ImageReadError(f"{path}: has {image.n_frames} frames or pages; extract the one you want")
            image.load()
            return _to_rgb(ImageOps.exif_transpose(image), path)
    except UnidentifiedImageError as error:
        raise ImageReadError(
            f"{path}: is not an image in a known format ({', '.join(sorted(set(FORMATS)))})"
        ) from error
    except (OSError, SyntaxError, ValueError, EOFError, ArithmeticError, LookupError) as error:
        # Pillow's decoders report broken files with any of these.
        raise ImageReadError(f"{path}: is truncated or damaged ({error})") from error


def _to_rgb(image: Image.Image, path: Path) -> Image.Image:
    if image.mode.startswith("I"):
        return image
    if image.mode == "F":
        raise ImageReadError(f"{path}: holds floating-point values; convert it to 8 or 16 bits first")
    if image.has_transparency_data:
        rgba = image.convert("RGBA")
        if np.asarray(rgba)[..., 3].min() < 255:
            logger.warning("%s: transparency is flattened onto white", path)
            white = Image.new("RGBA", rgba.size, "white")
            return Image.alpha_composite(white, rgba).convert("RGB")
    return image.convert("RGB")


@contextmanager
def _limit_lifted() -> Iterator[None]:
    """Suspend Pillow's own, process-wide pixel limit: ours has a flag and a message of its own."""
    with _pillow_limit, warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        saved, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
        try:
            yield
        finally:
            Image.MAX_IMAGE_PIXELS = saved


def write_image(image: Image.Image, path: Path) -> None:
    """Store an image in the format of the path's suffix; the file appears complete or not at all.

    Args:
        image (PIL image): RGB.
        path (Path): destination; its folder is created when missing.

    Raises:
        InvalidInputError: unknown suffix.
        ImageWriteError: no room, no permission, or the format cannot hold the image.
    """
    name = image_format(path)
    try:
        with atomic_path(path) as temporary:
            image.save(temporary, format=name, **SAVE_OPTIONS[name])
    except (OSError, ValueError) as error:
        raise ImageWriteError(f"{path}: cannot be written ({error})") from error


def image_format(path: Path) -> str:
    """Pillow's name of the format that the path's suffix stands for.

    Raises:
        InvalidInputError: unknown suffix.
    """
    try:
        return FORMATS[path.suffix.lower()]
    except KeyError:
        raise InvalidInputError(f"{path}: unknown image suffix; choose from {', '.join(FORMATS)}") from None
