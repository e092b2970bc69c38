"""Previews: any picture, small and in a form that every browser shows."""

from __future__ import annotations

import numpy as np
from PIL import Image

from tsdsr.images.encoded import EncodedImage
from tsdsr.images.icc import to_srgb
from tsdsr.images.picture import Metadata, Picture, to_8_bits
from tsdsr.images.reading import read_picture
from tsdsr.images.writing import WriteOptions, write_picture
from tsdsr.serving.spool import Spool

SMALLEST_EDGE, LARGEST_EDGE = 64, 4096
_QUALITY = WriteOptions(quality=90)


def make_preview(source: EncodedImage, edge: int, spool: Spool) -> tuple[bytes, str]:
    """Return a picture in 8-bit sRGB as a JPEG, or as WebP if it has transparency.

    Args:
        source (EncodedImage): the picture, whose pixels were counted before.
        edge (int): longest side in pixels; smaller pictures keep their size.
        spool (Spool): where the file is written first.

    Returns:
        tuple: the file's bytes and its media type.

    Raises:
        TSDSRError: the picture cannot be read.
    """
    picture = to_srgb(_shrunk(read_picture(source, None), edge))
    kind = "jpeg" if picture.alpha is None else "webp"
    path = spool.new_path(f".{kind}")
    try:
        plain = Picture(picture.pixels, picture.alpha, Metadata())
        write_picture(plain, path, _QUALITY)
        return path.read_bytes(), f"image/{kind}"
    finally:
        spool.remove(path)


def _shrunk(picture: Picture, edge: int) -> Picture:
    """Return a picture with 8 bits and sides of at most ``edge``. Colours count by their opacity."""
    samples = to_8_bits(picture.pixels)
    if picture.alpha is not None:
        samples = np.concatenate([samples, to_8_bits(picture.alpha)[..., None]], axis=2)
    scale = min(1.0, edge / max(picture.width, picture.height))
    if scale < 1:
        size = tuple(max(1, round(side * scale)) for side in (picture.width, picture.height))
        image = Image.fromarray(samples[..., 0] if samples.shape[2] == 1 else samples)
        image = image.resize((size[0], size[1]), Image.Resampling.LANCZOS, reducing_gap=2.0)
        samples = np.asarray(image).reshape(size[1], size[0], -1)
    if picture.alpha is None:
        return Picture(samples, None, picture.metadata)
    colours, alpha = (np.ascontiguousarray(part) for part in (samples[..., :-1], samples[..., -1]))
    return Picture(colours, alpha, picture.metadata)
