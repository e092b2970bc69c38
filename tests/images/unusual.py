"""Image files that a simple decoder reads wrongly, written by other libraries, with their expected 8-bit RGB."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import tifffile
from PIL import Image

from tests.images.pictures import deep, exif, ramp, rgb
from tsdsr.images.picture import Pixels

UNUSUAL = (
    "grey16.png",
    "rgb16.png",
    "planar16.tif",
    "grey_alpha.png",
    "transparent.png",
    "transparent16.png",
    "turned.jpg",
    "turned.tif",
    "palette.png",
)
"""Names that :func:`write_unusual` knows; all but the turned ones and the palette differ from what Pillow's own
conversion to RGB gives."""

SIZE = 48
"""Edge of the pictures."""


def write_unusual(folder: Path, name: str) -> tuple[Path, Pixels]:
    """Write one of :data:`UNUSUAL`; return the file and its RGB (:data:`SIZE`, :data:`SIZE`, 3), uint8."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / name
    colours, alpha = np.ascontiguousarray(rgb(SIZE, SIZE)), ramp(SIZE, SIZE)
    colours16, alpha16 = deep(colours), deep(alpha, 1)
    grey = colours[..., 1]
    if name == "grey16.png":
        cv2.imwrite(str(path), colours16[..., 1])
        return path, _grey(np.rint(colours16[..., 1] / 257))
    if name == "rgb16.png":
        cv2.imwrite(str(path), colours16[..., ::-1])
        return path, np.rint(colours16 / 257).astype(np.uint8)
    if name == "planar16.tif":
        tifffile.imwrite(path, np.moveaxis(colours16, -1, 0), photometric="rgb", planarconfig="separate")
        return path, np.rint(colours16 / 257).astype(np.uint8)
    if name == "grey_alpha.png":
        Image.merge("LA", (Image.fromarray(grey), Image.fromarray(alpha))).save(path)
        return path, _grey(_on_white(grey, alpha, 255))
    if name == "transparent.png":
        Image.fromarray(np.dstack([colours, alpha])).save(path)
        return path, _on_white(colours, alpha[..., None], 255).astype(np.uint8)
    if name == "transparent16.png":
        cv2.imwrite(str(path), np.dstack([colours16[..., ::-1], alpha16]))
        return path, np.rint(np.rint(_on_white(colours16, alpha16[..., None], 65535)) / 257).astype(np.uint8)
    if name.startswith("turned"):
        lossy = {"quality": 95} if name.endswith("jpg") else {}
        Image.fromarray(colours).save(path, **lossy)
        with Image.open(path) as stored:
            shown = np.rot90(np.asarray(stored), -1)
        Image.fromarray(colours).save(path, exif=exif(6).tobytes(), **lossy)
        return path, shown
    image = Image.fromarray(colours).quantize(16)
    image.save(path)
    return path, np.asarray(image.convert("RGB"))


def write_float(folder: Path) -> Path:
    """Write a TIFF of floating-point values, whose range is not defined."""
    folder.mkdir(parents=True, exist_ok=True)
    tifffile.imwrite(folder / "float.tif", rgb(SIZE, SIZE)[..., 1].astype(np.float32) / 255)
    return folder / "float.tif"


def _grey(values: Pixels) -> Pixels:
    return np.repeat(values.astype(np.uint8)[..., None], 3, axis=2)


def _on_white(values: Pixels, alpha: Pixels, full: int) -> Pixels:
    share = alpha / full
    rounded: Pixels = np.rint(values * share + full * (1 - share))
    return rounded
