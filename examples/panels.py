"""Strips of labelled pictures for the documentation."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import skimage.data
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from tsdsr.pixels import to_tensor, to_uint8

IMAGES = Path(__file__).resolve().parents[1] / "docs" / "images"
GAP, LABEL = 6, 22


def photograph(name: str, left: int = 0, top: int = 0, width: int = 0, height: int = 0) -> Tensor:
    """Return a window of a photograph of scikit-image, (3, height, width) in [0, 1]; 0 means as far as it goes."""
    pixels = getattr(skimage.data, name)()
    if pixels.ndim == 2:
        pixels = np.repeat(pixels[..., None], 3, axis=-1)
    bottom, right = (top + height if height else None), (left + width if width else None)
    return to_tensor(np.ascontiguousarray(pixels[top:bottom, left:right]))


def panel(x: Tensor, width: int) -> Image.Image:
    """Convert an image (3, H, W) in [0, 1] to a picture of ``width`` pixels; pixels stay squares when enlarged."""
    image = Image.fromarray(to_uint8(x.clamp(0, 1)))
    height = round(image.height * width / image.width)
    filter_ = Image.Resampling.NEAREST if width >= image.width else Image.Resampling.LANCZOS
    return image.resize((width, height), filter_)


def grid(rows: Sequence[Sequence[Image.Image]], columns: Sequence[str], names: Sequence[str] = ()) -> Image.Image:
    """Draw rows of pictures of one size with a label above each column and, if named, before each row."""
    width, height = rows[0][0].size
    font = ImageFont.load_default(15)
    left = max((int(font.getlength(part)) for name in names for part in name.split("\n")), default=-GAP) + GAP
    size = (left + len(columns) * (width + GAP) - GAP, LABEL + len(rows) * (height + GAP) - GAP)
    sheet = Image.new("RGB", size, "white")
    draw = ImageDraw.Draw(sheet)
    for i, text in enumerate(columns):
        draw.text((left + i * (width + GAP) + width / 2, LABEL / 2), text, "black", font, anchor="mm")
    for k, row in enumerate(rows):
        top = LABEL + k * (height + GAP)
        if names:
            draw.multiline_text((0, top + height / 2), names[k], "black", font, anchor="lm")
        for i, picture in enumerate(row):
            sheet.paste(picture, (left + i * (width + GAP), top))
    return sheet


def save(sheet: Image.Image, name: str, quality: int = 80) -> None:
    """Store a picture of the documentation as WebP and print its size."""
    path = IMAGES / f"{name}.webp"
    sheet.save(path, quality=quality, method=6)
    print(f"{path.name}: {sheet.width}x{sheet.height}, {path.stat().st_size / 1000:.0f} kB")


def psnr(x: Tensor, y: Tensor) -> float:
    """Compute PSNR in dB over all channels of two images in [0, 1]."""
    return float(-10 * torch.log10((x - y).square().mean()))
